"""A training on cached features within a stated time and memory: what is left out for it, in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

SCALES = (7 / 8, 3 / 4, 5 / 8, 1 / 2, 3 / 8, 1 / 4)  # of the short side, tried one after the other
FEATURE_SHARE = 0.7  # of the time, at the least, that features may take before frames are made smaller
MIN_STEPS = 100


@dataclass(frozen=True)
class Work:
    """What a training on cached features does.

    Attributes:
        mirrors: Whether mirror images of the frames have features too.
        short_side: Of resized frames, in pixels.
        steps: Optimiser steps.
    """

    mirrors: bool
    short_side: int
    steps: int


@dataclass(frozen=True)
class Costs:
    """What this machine takes, in seconds: for what is done already, a window of the backbone, and a step."""

    spent: float
    window: float
    step: float


@dataclass(frozen=True)
class Limits:
    """What a training may take, and what may be left out for it.

    Attributes:
        seconds: From files to model.
        memory: Bytes of features.
        mirrors: Whether mirror images may be left out.
        short_sides: Smaller short sides that may be taken, in pixels, the largest first.
        steps: Whether there may be fewer steps.
    """

    seconds: float
    memory: int
    mirrors: bool
    short_sides: tuple[int, ...]
    steps: bool


@dataclass(frozen=True)
class Amounts:
    """How many windows the backbone sees, and how many bytes the features take."""

    windows: int
    memory: int


def smaller_sides(short_side: int, crop: int, patch: int) -> tuple[int, ...]:
    """Return the short sides that may be taken instead: whole patches, no smaller than a crop, the largest first."""
    sides = [round(short_side * scale / patch) * patch for scale in SCALES]
    return tuple(side for side in dict.fromkeys(sides) if crop <= side < short_side)


def fit(work: Work, amounts: Callable[[Work], Amounts], costs: Costs, limits: Limits) -> tuple[Work, list[str]]:
    """Leave out what does not fit: first mirror images, then the size of frames, then steps.

    Frames become smaller only while their features take more memory than there is, or more time than the steps leave
    and than :data:`FEATURE_SHARE` of all, or leave none for the fewest steps.

    Args:
        work: What is wanted.
        amounts: How many windows and bytes some work means.
        costs: Of this machine.
        limits: What it may take.

    Returns:
        What is left, and what was left out, a line each.
    """
    wanted, lines = work, []
    left = limits.seconds - costs.spent

    def features_fit(tried: Work) -> bool:
        needed = amounts(tried)
        share = max(left - tried.steps * costs.step, FEATURE_SHARE * left)
        share = min(share, left - min(tried.steps, MIN_STEPS) * costs.step)
        return needed.windows * costs.window <= share and needed.memory <= limits.memory

    def fits(tried: Work) -> bool:
        return features_fit(tried) and seconds_of(tried, amounts, costs) <= limits.seconds

    if not fits(work) and work.mirrors and limits.mirrors:
        work = replace(work, mirrors=False)
        lines.append("no mirror images (flip 0)")
    for short_side in limits.short_sides:
        if features_fit(work):
            break
        work = replace(work, short_side=short_side)
    if work.short_side < wanted.short_side:
        lines.append(f"frames of short side {work.short_side} instead of {wanted.short_side}")
    if not fits(work) and limits.steps:
        time = left - amounts(work).windows * costs.window
        steps = min(work.steps, max(MIN_STEPS, int(time / costs.step) // 10 * 10))
        if steps < work.steps:
            lines.append(f"{steps} steps instead of {work.steps}")
            work = replace(work, steps=steps)
    return work, lines


def seconds_of(work: Work, amounts: Callable[[Work], Amounts], costs: Costs) -> float:
    """Return the seconds that some work takes, with what is done already."""
    return costs.spent + amounts(work).windows * costs.window + work.steps * costs.step
