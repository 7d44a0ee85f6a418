"""The attention KL divergence, the fastest way there is: Triton on CUDA, chunks of PyTorch everywhere else."""

from __future__ import annotations

from functools import cache

import torch

from unip.errors import UnipError
from unip.pretraining.chunked_loss import chunked_attention_kl
from unip.pretraining.tokens import ALL, QK, Kept, Prefix, shared_tokens

__all__ = ["ALL", "QK", "Kept", "Prefix", "attention_kl", "shared_tokens"]


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

    No (L, L) map is ever in memory as a whole, forward or backward; logits, sums and the loss are float32 at least.

    Args:
        teacher: Queries and keys (B, H, L_t, D_t), float16, bfloat16, float32 or float64, of any strides; no gradient
            flows into them.
        student: Queries and keys (B, H, L_s, D_s), the same B and H, and as many kept tokens.
        teacher_scale: Factor on the teacher's logits (its head width ** -0.5).
        student_scale: The student's.
        teacher_kept: Tokens of the teacher that are compared; the others are left out of rows and columns before the
            softmax, so that the remaining attention is normalised again.
        student_kept: The student's.

    Returns:
        A scalar in nats, float32 or float64: summed over keys, averaged over batch, heads and queries.

    Raises:
        UnipError: The two sides differ in batch, heads or kept tokens.
    """
    shapes = [
        (q.shape[0], q.shape[1], q.shape[2] - kept.skip)
        for (q, _), kept in ((teacher, teacher_kept), (student, student_kept))
    ]
    if shapes[0] != shapes[1]:
        raise UnipError(f"attention maps cannot be compared: (batch, heads, tokens) {shapes[0]} against {shapes[1]}")
    where = student[0]
    if where.is_cuda and where.dtype != torch.float64 and _has_triton():
        from unip.pretraining.triton_loss import triton_attention_kl as compute
    else:
        compute = chunked_attention_kl
    return compute(
        teacher,
        student,
        teacher_scale=teacher_scale,
        student_scale=student_scale,
        teacher_kept=teacher_kept,
        student_kept=student_kept,
    )


@cache
def _has_triton() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:  # wheels for Windows and macOS come without it
        return False
    return True
