"""Teachers as fast as the device allows: what is changed in them, and how far that moves their attention."""

from __future__ import annotations

from statistics import fmean
from typing import Any, Literal

import torch

from unip.attention.capture import attention_map
from unip.errors import UnipError
from unip.pretraining.teachers import Target, Teachers
from unip.vit.frozen import fuse_gelus, to_float8

FLOAT8_SINCE = (8, 9)  # compute capability


def speed_up(
    teachers: Teachers,
    targets: tuple[Target, ...],
    pixels: torch.Tensor,
    *,
    precision: Literal["auto", "fp8"],
    tolerance: float,
) -> list[str]:
    """Make half-precision teachers faster, in place; the layers that are distilled stay as they are.

    Args:
        teachers: With a ``dtype``.
        targets: Whose attention must stay.
        pixels: Typical images (N, 1, S, S), normalised, N at least 2: scales are taken from the first half, the
            change of attention is measured on the second.
        precision: ``"auto"`` puts GELU into the product before it; ``"fp8"`` turns products to float8.
        tolerance: Largest change of attention: total variation distance between a query's attention before and after,
            0 to 1, mean over queries, heads and images.

    Returns:
        Lines that say what was done.

    Raises:
        UnipError: The device has no float8, or attention moves by more than ``tolerance``.
    """
    trunks: list[Any] = list(teachers.trunks)
    blocks = [list(trunk.trunk.blocks)[:-1] for trunk in trunks]
    if precision == "fp8" and pixels.is_cuda and torch.cuda.get_device_capability(pixels.device) < FLOAT8_SINCE:
        raise UnipError(
            f"teacher_precision fp8 needs a GPU of compute capability 8.9, and {torch.cuda.get_device_name()} is older",
            "Use --teacher-precision auto.",
        )
    typical, others = pixels.chunk(2)
    before = _queries_keys(teachers, others)
    count = 0
    for some in blocks:
        count += to_float8(some, lambda: teachers(typical)) if precision == "fp8" else fuse_gelus(some)
    what = "linear layers in float8" if precision == "fp8" else "MLPs with GELU in the product"
    lines = [f"teacher: {count} {what}"] if count else []
    after = _queries_keys(teachers, others)
    for number, target in enumerate(targets):
        scale = teachers.trunk(number).scale[target.layer]
        moved = fmean(
            0.5 * (attention_map(*one[number], scale) - attention_map(*two[number], scale)).abs().sum(-1).mean().item()
            for one, two in zip(before, after, strict=True)
        )
        lines.append(f"attention of {target.name} moves by {moved:.4f} (total variation, {len(others)} images)")
        if not moved <= tolerance:
            raise UnipError(
                f"the faster teacher's attention differs too much from the teacher's: {lines[-1]}, tolerance "
                f"{tolerance:g}",
                "Use --teacher-precision auto, or raise --teacher-tolerance.",
            )
    return lines


@torch.no_grad()
def _queries_keys(teachers: Teachers, pixels: torch.Tensor) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Return each target's (q, k) for each image alone: all maps at once would be large."""
    return [[(taught[0], taught[1]) for taught in teachers(image)] for image in pixels.chunk(len(pixels))]
