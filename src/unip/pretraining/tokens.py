"""Which tokens of teacher and student are compared."""

from __future__ import annotations

from typing import NamedTuple

import torch

QK = tuple[torch.Tensor, torch.Tensor]  # queries and keys


class Kept(NamedTuple):
    """Which tokens of a side take part: the first ``first``, and all those behind the next ``skip``.

    Compared token i is the side's token i while ``i < first``, and ``i + skip`` from there on.
    """

    first: int = 0
    skip: int = 0

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the kept tokens of (B, H, L, D); the tensor itself if that is all of them."""
        if not self.skip:
            return tensor
        return torch.cat([tensor[:, :, : self.first], tensor[:, :, self.first + self.skip :]], dim=2)


ALL = Kept()


class Prefix(NamedTuple):
    """The tokens in front of the patches: how many, and whether the first of them is a class token."""

    tokens: int
    has_class: bool


def shared_tokens(prefix: Prefix, other: Prefix) -> Kept:
    """Which tokens of a side take part when the other side has other prefix tokens.

    The class token is compared when both sides have one; registers and a class token that only one side has are left
    out.

    Args:
        prefix: Class and register tokens of this side.
        other: Of the other side.
    """
    if prefix == other:
        return ALL
    first = int(prefix.has_class and other.has_class)
    return Kept(first, prefix.tokens - first)
