"""The attention KL divergence in plain PyTorch: the reference, and in chunks for every device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from unip.attention.capture import attention_logits
from unip.pretraining.tokens import AttentionSide

CHUNK = 2**21  # logits of a side at a time: 8 MiB in float32, about a core's cache


def chunked_attention_kl(teacher: AttentionSide, student: AttentionSide) -> torch.Tensor:
    """Compute what :func:`unip.pretraining.loss.attention_kl` computes, a few rows of the maps at a time.

    The student's gradient is made together with the loss, since both need the same two maps: of a row of logits it is
    (student row - teacher row) / (B H L).
    """
    q_t, k_t = (teacher.selection.of(t).detach() for t in (teacher.q, teacher.k))
    q_s, k_s = (student.selection.of(t) for t in (student.q, student.k))
    loss: torch.Tensor = _ChunkedKL.apply(q_t, k_t, q_s, k_s, teacher.scale, student.scale)
    return loss


class _ChunkedKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q_t: torch.Tensor,
        k_t: torch.Tensor,
        q_s: torch.Tensor,
        k_s: torch.Tensor,
        teacher_scale: float,
        student_scale: float,
    ) -> torch.Tensor:
        dtype = torch.promote_types(q_s.dtype, torch.float32)
        shape = q_s.shape
        sides = [t.to(dtype).flatten(0, 1) for t in (q_t, k_t, q_s, k_s)]
        heads, length = sides[0].shape[:2]
        rows = heads * length
        wanted = any(ctx.needs_input_grad)
        gradients = [torch.zeros_like(t) for t in sides[2:]] if wanted else []
        total = torch.zeros((), dtype=dtype, device=q_s.device)
        for some, part in _chunks(heads, length):
            q1, k1, q2, k2 = (side[some, part] if i % 2 == 0 else side[some] for i, side in enumerate(sides))
            target = ((q1 * teacher_scale) @ k1.mT).log_softmax(dim=-1)
            found = ((q2 * student_scale) @ k2.mT).log_softmax(dim=-1)
            p = target.exp()
            total += (target.sub_(found) * p).sum()
            if wanted:
                slope = found.exp_().sub_(p).mul_(student_scale / rows)
                gradients[0][some, part] = slope @ k2
                gradients[1][some] += slope.mT @ q2
        if wanted:
            ctx.save_for_backward(*(g.view(shape) for g in gradients))
            ctx.dtypes = (q_s.dtype, k_s.dtype)
        return total / rows

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dq, dk = ctx.saved_tensors
        return None, None, (dq * slope).to(ctx.dtypes[0]), (dk * slope).to(ctx.dtypes[1]), None, None


def _chunks(heads: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of heads and of rows, such that a chunk has about ``CHUNK`` logits."""
    some = max(1, CHUNK // length**2)
    step = length if length**2 <= CHUNK else max(1, CHUNK // length)
    for head in range(0, heads, some):
        for row in range(0, length, step):
            yield slice(head, head + some), slice(row, row + step)


def plain_attention_kl(teacher: AttentionSide, student: AttentionSide) -> torch.Tensor:
    """Compute what :func:`unip.pretraining.loss.attention_kl` computes, with both maps in memory."""
    target, found = (
        attention_logits(side.selection.of(side.q), side.selection.of(side.k), side.scale).log_softmax(dim=-1)
        for side in (teacher, student)
    )
    target = target.detach()
    return (target.exp() * (target - found)).sum(dim=-1).mean()
