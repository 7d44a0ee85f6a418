"""The attention KL divergence, plainly: the reference that faster versions are tested against."""

from __future__ import annotations

from typing import NamedTuple

import torch

from unip.attention.capture import attention_logits

QK = tuple[torch.Tensor, torch.Tensor]


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


def attention_kl(
    teacher: QK,
    student: QK,
    *,
    teacher_scale: float,
    student_scale: float,
    teacher_kept: Kept = ALL,
    student_kept: Kept = ALL,
) -> torch.Tensor:
    """Mean KL(teacher row || student row) of softmax attention (UNIP, section 4, NMI-HAD).

    Args:
        teacher: Queries and keys (B, H, L_t, D_t); no gradient flows into them.
        student: Queries and keys (B, H, L_s, D_s), the same B and H, and as many kept tokens.
        teacher_scale: Factor on the teacher's logits (its head width ** -0.5).
        student_scale: The student's.
        teacher_kept: Tokens of the teacher that are compared; the others are left out of rows and columns before the
            softmax, so that the remaining attention is normalised again.
        student_kept: The student's.

    Returns:
        A scalar in nats, float32 or better: summed over keys, averaged over batch, heads and queries.
    """
    q, k = (teacher_kept.of(t) for t in teacher)
    target = attention_logits(q, k, teacher_scale).detach().log_softmax(dim=-1)
    q, k = (student_kept.of(t) for t in student)
    found = attention_logits(q, k, student_scale).log_softmax(dim=-1)
    return (target.exp() * (target - found)).sum(dim=-1).mean()


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
