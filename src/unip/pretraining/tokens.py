"""What of teacher and student is compared: queries and keys, and which of the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class TokenSelection(NamedTuple):
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


ALL = TokenSelection()


class AttentionSide(NamedTuple):
    """Teacher or student in the attention loss: the map softmax(scale q k^T) of the kept tokens.

    Attributes:
        q: Queries (B, H, L, D), float16, bfloat16, float32 or float64, of any strides.
        k: Keys, the same.
        scale: Factor on the logits (the head width ** -0.5).
        selection: Tokens that are compared; the others are left out of rows and columns before the softmax, so that the
            remaining attention is normalised again.
        values: The same of the layer's values, where their relations are compared too.
    """

    q: torch.Tensor
    k: torch.Tensor
    scale: float
    selection: TokenSelection = ALL
    values: torch.Tensor | None = None

    @classmethod
    def of(cls, parts: Sequence[torch.Tensor], scale: float, selection: TokenSelection) -> AttentionSide:
        """Make a side of (q, k) or (q, k, v)."""
        return cls(parts[0], parts[1], scale, selection, parts[2] if len(parts) > 2 else None)

    def of_values(self) -> AttentionSide:
        """Return the side whose map relates the values to each other: softmax(scale v v^T)."""
        assert self.values is not None
        return self._replace(q=self.values, k=self.values)


class Prefix(NamedTuple):
    """The tokens in front of the patches: how many, and whether the first of them is a class token."""

    tokens: int
    has_class: bool


def shared_tokens(prefix: Prefix, other: Prefix) -> TokenSelection:
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
    return TokenSelection(first, prefix.tokens - first)
