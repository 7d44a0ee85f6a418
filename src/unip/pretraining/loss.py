"""The attention KL divergence, the fastest way there is: Triton on CUDA, chunks of PyTorch everywhere else."""

from __future__ import annotations

from functools import cache

import torch

from unip.errors import UnipError
from unip.pretraining.chunked_loss import chunked_attention_kl
from unip.pretraining.tokens import AttentionSide


def attention_kl(teacher: AttentionSide, student: AttentionSide) -> torch.Tensor:
    """Mean KL(teacher row || student row) of softmax attention (UNIP, section 4, NMI-HAD).

    No (L, L) map is ever in memory as a whole, forward or backward; logits, sums and the loss are float32 at least.

    Args:
        teacher: (B, H, L_t, D_t); no gradient flows into it.
        student: (B, H, L_s, D_s), the same B and H, and as many kept tokens.

    Returns:
        A scalar in nats, float32 or float64: summed over keys, averaged over batch, heads and queries.

    Raises:
        UnipError: The two sides differ in batch, heads or kept tokens.
    """
    shapes = [(*side.q.shape[:2], side.q.shape[2] - side.selection.skip) for side in (teacher, student)]
    if shapes[0] != shapes[1]:
        raise UnipError(f"attention maps cannot be compared: (batch, heads, tokens) {shapes[0]} against {shapes[1]}")
    if student.q.is_cuda and student.q.dtype != torch.float64 and _has_triton():
        from unip.pretraining.triton_loss import triton_attention_kl as compute
    else:
        compute = chunked_attention_kl
    return compute(teacher, student)


@cache
def _has_triton() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:  # wheels for Windows and macOS come without it
        return False
    return True
