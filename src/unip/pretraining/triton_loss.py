"""The attention KL divergence as Triton kernels: tiles of both maps live in registers and nowhere else.

Forward, for a block of queries: one walk over the keys keeps, for each row, the running maximum and sum of both
softmaxes (M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", arXiv 1805.02867) and
``a = sum_j exp(t_j - max t) (t_j - s_j)``, where t and s are the teacher's and the student's logits. Then

    KL = a / sum_j exp(t_j - max t)  -  log sum_j exp t_j  +  log sum_j exp s_j.

Backward: with the two saved log-sums, d KL / d s_j = exp(s_j - log sum s) - exp(t_j - log sum t), tile by tile; one
kernel walks over keys for the gradient of queries and, in a second launch, over queries for that of keys. So there are
no atomic additions and the same input always gives the same bits. Logits are kept in units of log 2, since the hardware
has exp2.
"""

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from unip.pretraining.tokens import AttentionSide, TokenSelection


class Tiles(NamedTuple):
    """How many tokens a program keeps and how many it looks at at a time, and how it works on them."""

    own: int
    others: int
    warps: int
    stages: int


LOG2_E = math.log2(math.e)
LN_2 = math.log(2)


@triton.jit
def _load(start, stride, tokens, ok, first, skip, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Load compared tokens (tokens, PADDED); what is beyond the side's width or not ``ok`` is 0."""
    channels = tl.arange(0, PADDED)
    places = tokens + tl.where(tokens >= first, skip, 0)
    mask = ok[:, None] & (channels < WIDTH)[None, :]
    return tl.load(start + places[:, None].to(tl.int64) * stride + channels[None, :], mask=mask, other=0.0)


@triton.jit
def _forward(
    q_t, k_t, q_s, k_s, log_t, log_s, losses,
    q_t_b, q_t_h, q_t_l, k_t_b, k_t_h, k_t_l, q_s_b, q_s_h, q_s_l, k_s_b, k_s_h, k_s_l,
    heads, length, first_t, skip_t, first_s, skip_s, scale_t, scale_s,
    D_T: tl.constexpr, D_S: tl.constexpr, P_T: tl.constexpr, P_S: tl.constexpr,
    OWN: tl.constexpr, OTHERS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(length, OWN)
    which = (tl.program_id(0) // blocks).to(tl.int64)
    b, h = which // heads, which % heads
    rows = tl.program_id(0) % blocks * OWN + tl.arange(0, OWN)
    row_ok = rows < length
    precision: tl.constexpr = "ieee" if EXACT else "tf32"

    qt = _load(q_t + b * q_t_b + h * q_t_h, q_t_l, rows, row_ok, first_t, skip_t, D_T, P_T)
    qs = _load(q_s + b * q_s_b + h * q_s_h, q_s_l, rows, row_ok, first_s, skip_s, D_S, P_S)
    max_t = tl.full((OWN,), -float("inf"), tl.float32)
    max_s = tl.full((OWN,), -float("inf"), tl.float32)
    sum_t = tl.zeros((OWN,), tl.float32)
    sum_s = tl.zeros((OWN,), tl.float32)
    gaps = tl.zeros((OWN,), tl.float32)
    for start in range(0, length, OTHERS):
        cols = start + tl.arange(0, OTHERS)
        col_ok = cols < length
        kt = _load(k_t + b * k_t_b + h * k_t_h, k_t_l, cols, col_ok, first_t, skip_t, D_T, P_T)
        ks = _load(k_s + b * k_s_b + h * k_s_h, k_s_l, cols, col_ok, first_s, skip_s, D_S, P_S)
        t = tl.dot(qt, tl.trans(kt), input_precision=precision) * scale_t
        s = tl.dot(qs, tl.trans(ks), input_precision=precision) * scale_s
        gap = t - s
        t = tl.where(col_ok[None, :], t, -float("inf"))
        s = tl.where(col_ok[None, :], s, -float("inf"))
        new_t = tl.maximum(max_t, tl.max(t, 1))
        new_s = tl.maximum(max_s, tl.max(s, 1))
        p = tl.exp2(t - new_t[:, None])
        shrink = tl.exp2(max_t - new_t)
        sum_t = sum_t * shrink + tl.sum(p, 1)
        gaps = gaps * shrink + tl.sum(p * gap, 1)
        sum_s = sum_s * tl.exp2(max_s - new_s) + tl.sum(tl.exp2(s - new_s[:, None]), 1)
        max_t = new_t
        max_s = new_s
    lse_t = max_t + tl.log2(sum_t)
    lse_s = max_s + tl.log2(sum_s)
    kl = gaps / sum_t - lse_t + lse_s
    tl.store(log_t + which * length + rows, lse_t, mask=row_ok)
    tl.store(log_s + which * length + rows, lse_s, mask=row_ok)
    tl.store(losses + tl.program_id(0), tl.sum(tl.where(row_ok, kl, 0.0), 0))


@triton.jit
def _backward(
    own_t, own_s, other_t, other_s, log_t, log_s, slope, gradient,
    own_t_b, own_t_h, own_t_l, own_s_b, own_s_h, own_s_l,
    other_t_b, other_t_h, other_t_l, other_s_b, other_s_h, other_s_l, d_b, d_h, d_l,
    heads, length, first_t, skip_t, first_s, skip_s, scale_t, scale_s, factor,
    D_T: tl.constexpr, D_S: tl.constexpr, P_T: tl.constexpr, P_S: tl.constexpr,
    OWN: tl.constexpr, OTHERS: tl.constexpr, EXACT: tl.constexpr, OF_QUERIES: tl.constexpr,
):  # fmt: skip
    """Write the gradient of a block of ``own`` tokens: queries, walking over keys, or keys, walking over queries."""
    blocks = tl.cdiv(length, OWN)
    which = (tl.program_id(0) // blocks).to(tl.int64)
    b, h = which // heads, which % heads
    mine = tl.program_id(0) % blocks * OWN + tl.arange(0, OWN)
    mine_ok = mine < length
    precision: tl.constexpr = "ieee" if EXACT else "tf32"

    mt = _load(own_t + b * own_t_b + h * own_t_h, own_t_l, mine, mine_ok, first_t, skip_t, D_T, P_T)
    ms = _load(own_s + b * own_s_b + h * own_s_h, own_s_l, mine, mine_ok, first_s, skip_s, D_S, P_S)
    if OF_QUERIES:
        lse_t = tl.load(log_t + which * length + mine, mask=mine_ok, other=0.0)[:, None]
        lse_s = tl.load(log_s + which * length + mine, mask=mine_ok, other=0.0)[:, None]
    found = tl.zeros((OWN, P_S), tl.float32)
    for start in range(0, length, OTHERS):
        others = start + tl.arange(0, OTHERS)
        others_ok = others < length
        ot = _load(other_t + b * other_t_b + h * other_t_h, other_t_l, others, others_ok, first_t, skip_t, D_T, P_T)
        os = _load(other_s + b * other_s_b + h * other_s_h, other_s_l, others, others_ok, first_s, skip_s, D_S, P_S)
        if not OF_QUERIES:
            lse_t = tl.load(log_t + which * length + others, mask=others_ok, other=0.0)[None, :]
            lse_s = tl.load(log_s + which * length + others, mask=others_ok, other=0.0)[None, :]
        # the tile of a map, (queries, keys); for keys its transpose
        t = tl.dot(mt, tl.trans(ot), input_precision=precision) * scale_t
        s = tl.dot(ms, tl.trans(os), input_precision=precision) * scale_s
        d = tl.exp2(s - lse_s) - tl.exp2(t - lse_t)
        # beyond the last token d may be infinite, which the zeros there would not make good
        d = tl.where(others_ok[None, :], d, 0.0)
        found += tl.dot(d.to(os.dtype), os, input_precision=precision)
    found = found * (factor * tl.load(slope))
    channels = tl.arange(0, P_S)
    places = mine + tl.where(mine >= first_s, skip_s, 0)
    mask = mine_ok[:, None] & (channels < D_S)[None, :]
    target = gradient + b * d_b + h * d_h + places[:, None].to(tl.int64) * d_l + channels[None, :]
    tl.store(target, found.to(gradient.dtype.element_ty), mask=mask)


def triton_attention_kl(teacher: AttentionSide, student: AttentionSide) -> torch.Tensor:
    """Compute what :func:`unip.pretraining.loss.attention_kl` computes; float16, bfloat16 or float32 on one GPU."""
    q_t, k_t = (_dense_rows(t.detach()) for t in (teacher.q, teacher.k))
    q_s, k_s = (_dense_rows(t) for t in (student.q, student.k))
    scales, selection = (teacher.scale, student.scale), (teacher.selection, student.selection)
    loss: torch.Tensor = _TritonKL.apply(q_t, k_t, q_s, k_s, *scales, *selection)
    return loss


def _dense_rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


class _TritonKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q_t: torch.Tensor,
        k_t: torch.Tensor,
        q_s: torch.Tensor,
        k_s: torch.Tensor,
        teacher_scale: float,
        student_scale: float,
        teacher_selection: TokenSelection,
        student_selection: TokenSelection,
    ) -> torch.Tensor:
        batch, heads, tokens, _ = q_s.shape
        length = tokens - student_selection.skip
        tiles, *backward_tiles = tile_sizes(q_t, q_s)
        programs = batch * heads * triton.cdiv(length, tiles.own)
        logs = torch.empty(2, batch * heads, length, dtype=torch.float32, device=q_s.device)
        losses = torch.empty(programs, dtype=torch.float32, device=q_s.device)
        tensors = (q_t, k_t, q_s, k_s)
        strides = [s for t in tensors for s in t.stride()[:3]]
        # keywords of both kernels
        shape = {
            "heads": heads,
            "length": length,
            "first_t": teacher_selection.first,
            "skip_t": teacher_selection.skip,
            "first_s": student_selection.first,
            "skip_s": student_selection.skip,
            "scale_t": teacher_scale * LOG2_E,
            "scale_s": student_scale * LOG2_E,
            "D_T": q_t.shape[-1],
            "D_S": q_s.shape[-1],
            "P_T": padded(q_t.shape[-1]),
            "P_S": padded(q_s.shape[-1]),
            "EXACT": q_s.dtype == torch.float32 or q_t.dtype == torch.float32,
        }
        _launch(_forward, programs, tiles, (*tensors, logs[0], logs[1], losses, *strides), shape)
        ctx.save_for_backward(*tensors, logs)
        ctx.shape, ctx.tiles, ctx.student_scale = shape, backward_tiles, student_scale
        return losses.sum() * (LN_2 / (batch * heads * length))

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q_t, k_t, q_s, k_s, logs = ctx.saved_tensors
        batch, heads = q_s.shape[:2]
        length = ctx.shape["length"]
        shape = {**ctx.shape, "factor": ctx.student_scale / (batch * heads * length)}
        gradients = []
        queries, keys = (q_t, q_s), (k_t, k_s)
        for own, others, tiles in zip((queries, keys), (keys, queries), ctx.tiles, strict=True):
            new = torch.zeros_like if shape["skip_s"] else torch.empty_like  # tokens left out get no gradient
            gradient = _dense_rows(new(own[1]))
            tensors = (*own, *others)
            strides = [s for t in (*tensors, gradient) for s in t.stride()[:3]]
            programs = batch * heads * triton.cdiv(length, tiles.own)
            arguments = (*tensors, logs[0], logs[1], slope.float(), gradient, *strides)
            _launch(_backward, programs, tiles, arguments, {**shape, "OF_QUERIES": own is queries})
            gradients.append(gradient)
        return None, None, gradients[0], gradients[1], None, None, None, None


def _launch(kernel: Any, programs: int, tiles: Tiles, arguments: tuple[Any, ...], named: dict[str, float]) -> None:
    kernel[(programs,)](
        *arguments, **named, OWN=tiles.own, OTHERS=tiles.others, num_warps=tiles.warps, num_stages=tiles.stages
    )


def padded(width: int) -> int:
    """Return the channels that a tile has for a head of ``width``: a power of two, at least 16 for the tensor cores."""
    return max(16, int(triton.next_power_of_2(width)))


def tile_sizes(q_t: torch.Tensor, q_s: torch.Tensor) -> tuple[Tiles, Tiles, Tiles]:
    """Return the tiles of the forward kernel and of the gradients of queries and of keys.

    The fastest of 42 each, over 197 and 1,025 tokens together, on an H100 (head widths 64 and 24, bfloat16); wider
    heads and float32, whose tiles would not fit the registers, take small ones.
    """
    if max(padded(q_t.shape[-1]), padded(q_s.shape[-1])) > 64 or max(q_t.element_size(), q_s.element_size()) > 2:
        small = Tiles(32, 32, warps=4, stages=1)
        return small, small, small
    return Tiles(64, 32, warps=4, stages=1), Tiles(128, 32, warps=4, stages=3), Tiles(128, 64, warps=4, stages=1)
