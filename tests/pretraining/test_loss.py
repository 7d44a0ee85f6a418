"""The loss against its definition in float64, term by term in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unip.pretraining.loss import attention_kl
from unip.pretraining.tokens import AttentionSide, Prefix, shared_tokens


def rows(q: np.ndarray, k: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Attention (B, H, L, L) and its logarithm in float64, one row after the other."""
    logits = scale * np.einsum("bhqd,bhkd->bhqk", q.astype(np.float64), k.astype(np.float64))
    logits -= logits.max(-1, keepdims=True)
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return np.exp(log), log


def kl_float64(teacher, student, teacher_scale, student_scale) -> float:
    p, log_p = rows(*teacher, teacher_scale)
    _, log_s = rows(*student, student_scale)
    batch, heads, length = p.shape[:3]
    total = 0.0
    for b, h, query in np.ndindex(batch, heads, length):
        for key in range(length):
            if p[b, h, query, key] > 0:
                total += p[b, h, query, key] * (log_p[b, h, query, key] - log_s[b, h, query, key])
    return total / (batch * heads * length)


def pair(seed: int, width: int, *, sharpness: float = 1.0, length: int = 7):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 3, length, width, generator=generator) * sharpness for _ in range(2))


def loss(teacher, student) -> torch.Tensor:
    return scaled_loss(teacher, student, teacher[0].shape[-1] ** -0.5, student[0].shape[-1] ** -0.5)


def scaled_loss(teacher, student, teacher_scale, student_scale) -> torch.Tensor:
    return attention_kl(AttentionSide(*teacher, teacher_scale), AttentionSide(*student, student_scale))


@pytest.mark.parametrize(
    ("widths", "sharpness"),
    [((8, 8), 1.0), ((16, 4), 1.0), ((8, 8), 5.0), ((4, 16), 0.01)],
    ids=["equal head widths", "a wide teacher", "pointed", "almost uniform"],
)
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition_in_float64(widths, sharpness, seed):
    teacher = pair(seed, widths[0], sharpness=sharpness)
    student = pair(seed + 100, widths[1], sharpness=sharpness)
    arrays = [tuple(t.numpy() for t in side) for side in (teacher, student)]
    wanted = kl_float64(*arrays, widths[0] ** -0.5, widths[1] ** -0.5)
    assert wanted > 0
    # float32 rounds logits of size s to 1e-7 s; in the almost uniform case terms of 1e-4 cancel to 1e-8
    assert loss(teacher, student).item() == pytest.approx(wanted, rel=1e-5, abs=3e-7)
    precise = loss(tuple(t.double() for t in teacher), tuple(t.double() for t in student))
    assert precise.dtype == torch.float64
    assert precise.item() == pytest.approx(wanted, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("sharpness", [30.0, 1e3])
def test_logits_whose_exponentials_overflow_or_vanish(sharpness):
    """Attention that is 0 or 1 in float32 on both sides: the loss is large, finite, and right."""
    teacher, student = pair(1, 8, sharpness=sharpness), pair(2, 8, sharpness=sharpness)
    arrays = [tuple(t.numpy() for t in side) for side in (teacher, student)]
    wanted = kl_float64(*arrays, 8**-0.5, 8**-0.5)
    assert wanted > 100
    assert loss(teacher, student).item() == pytest.approx(wanted, rel=1e-5)


def test_teacher_certain_of_a_key_that_the_student_never_looks_at():
    length = 5
    q = torch.zeros(1, 1, length, 2)
    q[..., 0] = 1
    towards_first, towards_last = torch.zeros_like(q), torch.zeros_like(q)
    towards_first[..., 0, 0] = 5000
    towards_last[..., -1, 0] = 5000
    found = scaled_loss((q, towards_first), (q, towards_last), 1.0, 1.0)
    assert found.item() == pytest.approx(5000)


def test_zero_when_both_attend_alike():
    q, k = pair(3, 8)
    assert loss((q, k), (q, k)).item() == 0
    # another head width and other numbers, the same dot products
    wider = tuple(torch.cat([t, torch.zeros_like(t)], dim=-1) for t in (q, k))
    assert scaled_loss(wider, (q, k), 0.3, 0.3).item() == pytest.approx(0, abs=1e-6)
    # a row's logits may all be shifted: softmax does not see it
    shifted = (torch.cat([q, torch.ones_like(q)], -1), torch.cat([k, torch.full_like(k, 7.0)], -1))
    assert scaled_loss(shifted, (q, k), 0.3, 0.3).item() == pytest.approx(0, abs=1e-5)


def test_each_side_has_its_own_scale():
    teacher, student = pair(4, 8), pair(5, 8)
    scaled = (teacher[0] * 2, teacher[1])
    a = scaled_loss(scaled, student, 0.5, 0.25)
    b = scaled_loss(teacher, student, 1.0, 0.25)
    assert a.item() == pytest.approx(b.item(), rel=1e-5)
    assert a.item() != pytest.approx(loss(teacher, student).item(), rel=1e-2)


def test_gradient_equals_the_analytic_one_in_float64():
    """d KL / d logits of a row is (student row - teacher row) / (B H L); the rest is the chain rule."""
    teacher, student = pair(6, 12), pair(7, 8)
    learnt = tuple(t.clone().requires_grad_() for t in student)
    loss(teacher, learnt).backward()
    p, _ = rows(*(t.numpy() for t in teacher), 12**-0.5)
    s, _ = rows(*(t.numpy() for t in student), 8**-0.5)
    d_logits = (s - p) / np.prod(p.shape[:3]) * 8**-0.5
    q, k = (t.numpy().astype(np.float64) for t in student)
    np.testing.assert_allclose(learnt[0].grad, np.einsum("bhqk,bhkd->bhqd", d_logits, k), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(learnt[1].grad, np.einsum("bhqk,bhqd->bhkd", d_logits, q), rtol=1e-4, atol=1e-7)


def test_gradient_is_finite_for_extreme_logits():
    teacher = pair(8, 8, sharpness=1e3)
    learnt = tuple(t.requires_grad_() for t in pair(9, 8, sharpness=1e3))
    loss(teacher, learnt).backward()
    assert all(torch.isfinite(t.grad).all() for t in learnt)
    assert all(t.grad.abs().max() > 0 for t in learnt)


def test_no_gradient_flows_into_the_teacher():
    teacher = tuple(t.requires_grad_() for t in pair(10, 8))
    student = tuple(t.requires_grad_() for t in pair(11, 8))
    loss(teacher, student).backward()
    assert all(t.grad is None for t in teacher)


def test_the_class_token_takes_part_as_row_and_as_column():
    teacher, student = pair(12, 8), pair(13, 8)
    whole = loss(teacher, student).item()
    other_query = (student[0].clone(), student[1])
    other_query[0][:, :, 0] += 1
    other_key = (student[0], student[1].clone())
    other_key[1][:, :, 0] += 1
    assert loss(teacher, other_query).item() != pytest.approx(whole, rel=1e-3)
    assert loss(teacher, other_key).item() != pytest.approx(whole, rel=1e-3)


def test_half_precision_is_compared_in_float32():
    teacher, student = (tuple(t.half() for t in pair(seed, 8, sharpness=3)) for seed in (14, 15))
    found = loss(teacher, student)
    assert found.dtype == torch.float32
    wanted = loss(tuple(t.double() for t in teacher), tuple(t.double() for t in student))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("prefix", "other", "tokens", "kept"),
    [
        ((1, True), (1, True), 5, [0, 1, 2, 3, 4]),
        ((5, True), (5, True), 7, [0, 1, 2, 3, 4, 5, 6]),  # registers on both sides are compared
        ((5, True), (1, True), 8, [0, 5, 6, 7]),
        ((1, True), (5, True), 4, [0, 1, 2, 3]),
        ((1, True), (0, False), 4, [1, 2, 3]),
        ((0, False), (1, True), 3, [0, 1, 2]),
        ((4, False), (0, False), 7, [4, 5, 6]),
        ((4, False), (1, True), 7, [4, 5, 6]),  # registers only: the first is no class token
        ((1, True), (4, False), 4, [1, 2, 3]),
        ((1, False), (1, True), 4, [1, 2, 3]),  # as many tokens, of another kind
        ((1, True), (1, False), 4, [1, 2, 3]),
    ],
)
def test_shared_tokens(prefix, other, tokens, kept):
    numbers = torch.arange(tokens).reshape(1, 1, tokens, 1)
    assert shared_tokens(Prefix(*prefix), Prefix(*other)).of(numbers).flatten().tolist() == kept
