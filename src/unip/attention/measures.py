"""Numbers that say how a layer attends.

Functions take the attention of one layer as maps ``(..., L, L)`` whose rows (queries) over keys sum to 1, and give one
number a map. Those with ``log`` in their name take its logarithm, which keeps entries that float32 would round to 0.
"""

from __future__ import annotations

import math

import torch

from unip.attention.capture import attention_logits


def nmi(q: torch.Tensor, k: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    """Normalised mutual information between query and key positions, from queries and keys.

    With p(q) = 1/L and p(k) the mean attention that key k receives, I = H(k) - H(k | q) and
    NMI = I / sqrt(H(q) H(k)) (UNIP, section 3; METHOD of Park et al., ICLR 2023). 0: every query attends to the same
    keys;
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
    """NMI of log attention (..., L, L), -inf allowed. Returns (...)."""
    attention = log_attention.exp()
    return nmi_of_rows(attention, row_entropy(attention, log_attention))


def attention_entropy(attention: torch.Tensor) -> torch.Tensor:
    """Entropy of a query's attention over all keys, -sum A log A, mean over queries.

    Args:
        attention: (..., L, L); entries of 0 count 0.

    Returns:
        (...), nats, from 0 (each query attends to one key) to log L (uniform).
    """
    return -torch.xlogy(attention, attention).sum(-1).mean(-1)


def attention_distance(attention: torch.Tensor, grid: tuple[int, int], prefix: int = 0) -> torch.Tensor:
    """Mean distance from a patch query to the patches it attends to (Dosovitskiy et al., ICLR 2021, figure 7).

    Distances are Euclidean between patch centres, weighted by the attention. Class and register tokens have no place:
    their rows are left out, and each patch row is normalised over the patch keys.

    Args:
        attention: (..., L, L), prefix tokens first, then the patches row by row.
        grid: Patch rows and columns.
        prefix: Class and register tokens.

    Returns:
        (...), in patches; NaN where a query's attention is all on prefix tokens. Divide by ``grid_diagonal(grid)`` for
        the share of the image's diagonal.
    """
    patches = attention[..., prefix:, prefix:]
    rows = torch.arange(grid[0] * grid[1], device=attention.device)
    places = torch.stack([rows // grid[1], rows % grid[1]], dim=1).to(attention.dtype)
    distances = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
    return ((patches * distances).sum(-1) / patches.sum(-1)).mean(-1)


def grid_diagonal(grid: tuple[int, int]) -> float:
    """Length of the image's diagonal, in patches."""
    return math.hypot(*grid)


def prefix_share(attention: torch.Tensor, first: int, last: int, prefix: int) -> torch.Tensor:
    """Share of a patch query's attention that falls on the prefix tokens ``first`` to ``last - 1``, mean over queries.

    Args:
        attention: (..., L, L), prefix tokens first.
        first: First token counted; the class token is 0.
        last: One past the last token counted.
        prefix: Class and register tokens together, whose own rows are left out.

    Returns:
        (...), from 0 to 1; NaN when no token is counted.
    """
    share = attention[..., prefix:, first:last].sum(-1).mean(-1)
    return share if last > first else torch.full_like(share, math.nan)


def row_entropy(attention: torch.Tensor, log_attention: torch.Tensor) -> torch.Tensor:
    """Entropy (..., L) in nats of each query's attention, from the maps (..., L, L) and their logarithm."""
    return -(attention * log_attention.clamp_min(-1e4)).sum(-1)


def nmi_of_rows(attention: torch.Tensor, entropy: torch.Tensor) -> torch.Tensor:
    """NMI of maps (..., L, L) whose row entropies (..., L) are known. Returns (...)."""
    length = attention.shape[-1]
    if length < 2:
        return torch.zeros_like(attention[..., 0, 0])
    received = attention.mean(-2)
    h_key = -torch.xlogy(received, received).sum(-1)
    information = (h_key - entropy.mean(-1)).clamp_min(0)
    value = information / (math.log(length) * h_key).sqrt()
    return torch.where(h_key == 0, torch.zeros_like(value), value).clamp(0, 1)  # NaN stays NaN
