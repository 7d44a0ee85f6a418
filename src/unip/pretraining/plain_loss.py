"""The attention KL divergence, plainly: the reference that faster versions are tested against."""

from __future__ import annotations

import torch

from unip.attention.capture import attention_logits
from unip.pretraining.tokens import ALL, QK, Kept


def plain_attention_kl(
    teacher: QK,
    student: QK,
    *,
    teacher_scale: float,
    student_scale: float,
    teacher_kept: Kept = ALL,
    student_kept: Kept = ALL,
) -> torch.Tensor:
    """Compute what :func:`unip.pretraining.loss.attention_kl` computes, with both maps in memory."""
    q, k = (teacher_kept.of(t) for t in teacher)
    target = attention_logits(q, k, teacher_scale).detach().log_softmax(dim=-1)
    q, k = (student_kept.of(t) for t in student)
    found = attention_logits(q, k, student_scale).log_softmax(dim=-1)
    return (target.exp() * (target - found)).sum(dim=-1).mean()
