"""The attention KL divergence, plainly: the reference that faster versions are tested against."""

from __future__ import annotations

from typing import NamedTuple

import torch

from unip.attention.capture import attention_logits

QK = tuple[torch.Tensor, torch.Tensor]


def attention_kl(teacher: QK, student: QK, *, teacher_scale: float, student_scale: float) -> torch.Tensor:
    """Mean KL(teacher row || student row) of softmax attention (UNIP, section 4, NMI-HAD).

    Args:
        teacher: Queries and keys (B, H, L, D_t); no gradient flows into them.
        student: Queries and keys (B, H, L, D_s), the same B, H and L.
        teacher_scale: Factor on the teacher's logits (its head width ** -0.5).
        student_scale: The student's.

    Returns:
        A scalar in nats, float32 or better: summed over keys, averaged over batch, heads and queries.
    """
    target = attention_logits(*teacher, teacher_scale).detach().log_softmax(dim=-1)
    found = attention_logits(*student, student_scale).log_softmax(dim=-1)
    return (target.exp() * (target - found)).sum(dim=-1).mean()


class Prefix(NamedTuple):
    """The tokens in front of the patches: how many, and whether the first of them is a class token."""

    tokens: int
    has_class: bool


def shared_tokens(prefix: Prefix, other: Prefix, tokens: int) -> list[int]:
    """Which tokens of a side take part when the other side has other prefix tokens.

    The class token is compared when both sides have one; registers and a class token that only one side has are left
    out of rows and columns before the softmax, so that the remaining attention is normalised again.

    Args:
        prefix: Class and register tokens of this side.
        other: Of the other side.
        tokens: All tokens of this side.
    """
    if prefix == other:
        return list(range(tokens))
    first = [0] if prefix.has_class and other.has_class else []
    return first + list(range(prefix.tokens, tokens))
