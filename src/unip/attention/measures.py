"""Numbers that say how a layer attends."""

from __future__ import annotations

import math

import torch

from unip.attention.capture import attention_logits


def nmi(q: torch.Tensor, k: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    """Normalised mutual information between query and key positions, from queries and keys.

    With p(q) = 1/L and p(k) the mean attention that key k receives, I = H(k) - H(k | q) and
    NMI = I / sqrt(H(q) H(k)) (UNIP, section 3; METHOD of Park et al., ICLR 2023). 0: every query attends alike;
    1: a one-to-one map.

    Args:
        q: Queries (B, H, L, D).
        k: Keys (B, H, L, D).
        scale: Factor on the logits; D ** -0.5 when None.

    Returns:
        (B, H), float32 or better, finite for finite input, in [0, 1].
    """
    return nmi_of_log_attention(attention_logits(q, k, scale).log_softmax(dim=-1))


def nmi_of_attention(attention: torch.Tensor) -> torch.Tensor:
    """NMI of attention maps (..., L, L) whose rows sum to 1; entries that underflowed to 0 count 0. Returns (...)."""
    return nmi_of_log_attention(attention.to(torch.promote_types(attention.dtype, torch.float32)).log())


def nmi_of_log_attention(log_attention: torch.Tensor) -> torch.Tensor:
    """NMI of log attention (..., L, L), -inf allowed. Returns (...).

    Working from logarithms keeps entries that float32 attention would round to 0.
    """
    length = log_attention.shape[-1]
    if length < 2:
        return torch.zeros_like(log_attention[..., 0, 0])
    attention = log_attention.exp()
    h_key_given_query = -(attention * log_attention.clamp_min(-1e4)).sum(-1).mean(-1)
    received = attention.mean(-2)
    h_key = -torch.xlogy(received, received).sum(-1)
    information = (h_key - h_key_given_query).clamp_min(0)
    value = information / (math.log(length) * h_key).sqrt()
    return torch.where(h_key > 0, value, torch.zeros_like(value)).clamp(0, 1)
