"""The attention KL divergence, plainly: the reference that faster versions are tested against."""

from __future__ import annotations

import torch

from unip.attention.capture import attention_logits
from unip.pretraining.tokens import Side


def plain_attention_kl(teacher: Side, student: Side) -> torch.Tensor:
    """Compute what :func:`unip.pretraining.loss.attention_kl` computes, with both maps in memory."""
    target, found = (
        attention_logits(side.kept.of(side.q), side.kept.of(side.k), side.scale).log_softmax(dim=-1)
        for side in (teacher, student)
    )
    target = target.detach()
    return (target.exp() * (target - found)).sum(dim=-1).mean()
