"""The chunked and the Triton loss against the plain one in float64, values and gradients."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unip.errors import UnipError
from unip.pretraining import chunked_loss
from unip.pretraining.chunked_loss import plain_attention_kl
from unip.pretraining.loss import attention_kl
from unip.pretraining.tokens import AttentionSide, TokenSelection

# tokens and head width of teacher and student, tokens left out, sharpness of the logits
CASES = {
    "one tile": (7, 7, 16, 8, TokenSelection(), TokenSelection(), 1.0),
    "several tiles, odd widths": (70, 70, 20, 15, TokenSelection(), TokenSelection(), 1.0),
    "teacher with registers": (74, 70, 16, 24, TokenSelection(1, 4), TokenSelection(), 3.0),
    "class token on one side, registers on the other": (
        66,
        69,
        16,
        16,
        TokenSelection(0, 1),
        TokenSelection(0, 4),
        1.0,
    ),
    "maps of zeros and ones": (33, 33, 8, 8, TokenSelection(), TokenSelection(), 60.0),
}


def sides(case: str, dtype: torch.dtype, device: str = "cpu") -> tuple[AttentionSide, AttentionSide]:
    l_t, l_s, d_t, d_s, kept_t, kept_s, sharpness = CASES[case]
    generator = torch.Generator().manual_seed(0)

    def pair(tokens: int, width: int):
        packed = torch.randn(2, tokens, 2, 3, width, generator=generator) * sharpness
        return tuple(packed.to(device, dtype).permute(2, 0, 3, 1, 4))  # rows that are not next to each other

    return AttentionSide(*pair(l_t, d_t), d_t**-0.5, kept_t), AttentionSide(*pair(l_s, d_s), d_s**-0.5, kept_s)


def value_and_gradients(function, teacher: AttentionSide, student: AttentionSide, dtype):
    teacher = teacher._replace(q=teacher.q.to(dtype), k=teacher.k.to(dtype))
    q, k = (t.to(dtype).detach().requires_grad_() for t in (student.q, student.k))
    loss = function(teacher, student._replace(q=q, k=k))
    (loss * 3).backward()
    return loss.item(), [t.grad.double() for t in (q, k)]


def assert_equal_to_float64(function, case: str, dtype: torch.dtype, tolerance: float, device: str = "cpu") -> None:
    both = sides(case, dtype, device)
    wanted, slopes = value_and_gradients(plain_attention_kl, *both, torch.float64)
    found, gradients = value_and_gradients(function, *both, dtype)
    assert wanted > 0.1
    assert found == pytest.approx(wanted, rel=3e-6)
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert (gradient - slope).norm() <= tolerance * slope.norm()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunk", [10**6, 500, 10])
def test_chunked_equals_plain_however_it_is_cut(case, chunk, monkeypatch):
    monkeypatch.setattr(chunked_loss, "CHUNK", chunk)
    assert_equal_to_float64(chunked_loss.chunked_attention_kl, case, torch.float32, 1e-5)
    assert_equal_to_float64(chunked_loss.chunked_attention_kl, case, torch.float64, 1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 4e-3), (torch.float16, 1e-3)])
def test_chunked_takes_half_precision(dtype, tolerance):
    assert_equal_to_float64(chunked_loss.chunked_attention_kl, "several tiles, odd widths", dtype, tolerance)


def test_no_gradient_is_made_where_none_is_wanted():
    assert not attention_kl(*sides("one tile", torch.float32)).requires_grad


def test_sides_that_cannot_be_compared_are_refused():
    teacher, student = sides("teacher with registers", torch.float32)
    with pytest.raises(UnipError, match="cannot be compared"):
        attention_kl(teacher._replace(selection=TokenSelection()), student)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="this torch comes without Triton")
def test_triton_kernels_equal_plain_in_the_interpreter():
    """Triton's interpreter runs the kernels on the CPU; it must be chosen before they are loaded."""
    program = """
import torch
from tests.pretraining.test_fast_losses import CASES, assert_equal_to_float64
from unip.pretraining.triton_loss import triton_attention_kl

for case in CASES:
    # logits in the thousands, in float32: rounded to 1e-4, and so are their exponentials
    assert_equal_to_float64(triton_attention_kl, case, torch.float32, 2e-3 if "zeros and ones" in case else 2e-5)
assert_equal_to_float64(triton_attention_kl, "several tiles, odd widths", torch.float16, 1e-3)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"TRITON_INTERPRET": "1", "PYTHONPATH": ":".join([str(Path(__file__).parents[2]), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 4e-3), (torch.float16, 1e-3), (torch.float32, 5e-4)], ids=str
)
def test_triton_on_a_gpu(case, dtype, tolerance):
    assert_equal_to_float64(attention_kl, case, dtype, tolerance, "cuda")
