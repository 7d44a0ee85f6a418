"""Keeping a training on cached features within its minutes: the machine is measured, then `budget` decides."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import Accelerator

from unip.data.labelled.record import CheckedLabels
from unip.errors import UnipError
from unip.features.linear import CachedFeatures, cache_bytes, count_windows
from unip.runtime.memory import FREE_MEMORY_SHARE, free_memory
from unip.segmentation.budget import Amounts, Costs, Limits, Work, fit, seconds_of, smaller_sides
from unip.segmentation.config import FinetuneConfig, ResolvedConfig
from unip.segmentation.model import CachedLoss, Segmenter
from unip.segmentation.training_data import make_transform
from unip.training.pace import duration
from unip.vit.shape import width_of

SAVING_SECONDS = 15.0  # that importing torch before, and saving the model afterwards, take together
MEASURED_SECONDS = 1.5  # of the backbone, and of steps, once they are warm
FEWEST = 3  # frames, and steps: their median is what counts, since other work may slow one down
MOST = 6

Changes = dict[str, float | tuple[int, int]]


def keep_within(
    given: FinetuneConfig, config: ResolvedConfig, segmenter: Segmenter, labels: CheckedLabels, costs: Costs
) -> tuple[Changes, list[str]]:
    """Return the settings that the minutes change, and what is said about it.

    Args:
        given: The settings, of which only those left open may change.
        config: The same with all that was chosen.
        segmenter: As it would be trained.
        labels: What is trained on.
        costs: Of this machine.

    Raises:
        UnipError: The features take too much memory, whatever may be left out.
    """
    sizes = np.array([facts.size for facts in labels.facts], dtype=np.int64)
    channels = width_of(segmenter.backbone) * len(config.layers)

    def amounts(work: Work) -> Amounts:
        base = (config.base[0] * work.short_side // config.base[1], work.short_side)
        changed = config.model_copy(update={"flip": config.flip if work.mirrors else 0.0, "base": base})
        transform = make_transform(changed, segmenter.spec.mean)
        return Amounts(
            count_windows(transform, sizes, segmenter.patch),
            cache_bytes(transform, sizes, channels=channels, patch=segmenter.patch),
        )

    wanted = Work(mirrors=config.flip > 0, short_side=config.base[1], steps=config.steps)
    limits = Limits(
        seconds=60 * config.minutes,
        memory=int(FREE_MEMORY_SHARE * free_memory()),
        mirrors=given.is_open("flip"),
        short_sides=smaller_sides(config.base[1], config.crop, segmenter.patch) if given.is_open("base") else (),
        steps=given.is_open("steps") and given.epochs is None,
    )
    work, dropped = fit(wanted, amounts, costs, limits)
    needed, seconds = amounts(work), seconds_of(work, amounts, costs)
    if needed.memory > limits.memory:
        raise UnipError(
            f"the features take {needed.memory / 2**30:.3g} GiB, more than a quarter of the free memory",
            "Use --label-budget or a smaller --base; or --recipe fast, which keeps no features.",
        )
    changes: Changes = {}
    if work.mirrors != wanted.mirrors:
        changes["flip"] = 0.0
    if work.short_side != wanted.short_side:
        changes["base"] = (4 * work.short_side, work.short_side)
    if work.steps != wanted.steps:
        changes["steps"] = work.steps
    return changes, describe(costs, work, needed, seconds, limits.seconds, dropped)


def describe(costs: Costs, work: Work, needed: Amounts, seconds: float, limit: float, dropped: list[str]) -> list[str]:
    """Say what was measured, what was left out for it, and whether that is enough."""
    lines = [
        f"about {duration(seconds)} from files to model: {needed.windows:,} windows of the backbone at "
        f"{1000 * costs.window:.3g} ms, {work.steps} steps at {costs.step:.2g} s, {costs.spent:.0f} s for the rest; "
        f"features take {needed.memory / 2**20:,.0f} MiB"
    ]
    if dropped:
        lines.append(f"left out, to stay within {duration(limit)} and the memory: {', '.join(dropped)}; see --minutes")
    if seconds > limit:
        lines.append(f"note: that is more than the {duration(limit)} of --minutes, and no more can be left out")
    return lines


def measure_costs(
    model: CachedLoss, config: ResolvedConfig, labels: CheckedLabels, accelerator: Accelerator, begun: float
) -> Costs:
    """Compute features of a few frames and do a few steps on them, with a model that is thrown away.

    Args:
        model: Of the architecture that will be trained; its backbone is on the CPU again afterwards.
        config: The settings.
        labels: What is trained on.
        accelerator: Device and precision.
        begun: When the command began, of ``time.monotonic``.

    Raises:
        UnipError: A pair cannot be read.
    """
    with on_device(model, accelerator.device):
        window, dataset = measure_windows(model, config, labels, accelerator)
        step = measure_steps(model, config, dataset, accelerator)
    return Costs(time.monotonic() - begun + SAVING_SECONDS, window, step)


@contextmanager
def on_device(model: CachedLoss, device: torch.device) -> Iterator[None]:
    """Have a model on a device for the body."""
    model.to(device)
    try:
        yield
    finally:
        model.to("cpu")


def measure_windows(
    model: CachedLoss, config: ResolvedConfig, labels: CheckedLabels, accelerator: Accelerator
) -> tuple[float, CachedFeatures]:
    """Return the seconds that a window of the backbone takes, its share of reading a frame included, and features."""
    segmenter = model.segmenter
    transform = make_transform(config, segmenter.spec.mean)
    seconds: list[float] = []  # of a window
    first = time.monotonic()
    for index in range(min(len(labels.data), 1 + MOST)):
        size = labels.facts[index].size
        begun = time.monotonic()
        dataset = CachedFeatures(
            segmenter,
            labels.data.take([index]),
            [size],
            transform,
            seed=config.seed,
            autocast=accelerator.autocast(),
            shown=False,
        )
        windows = count_windows(transform, np.array([size]), segmenter.patch)
        seconds.append((time.monotonic() - begun) / windows)
        if index >= FEWEST and time.monotonic() - first >= MEASURED_SECONDS:
            break
    return median_when_warm(seconds), dataset


def measure_steps(
    model: CachedLoss, config: ResolvedConfig, dataset: CachedFeatures, accelerator: Accelerator
) -> float:
    """Return the seconds that a step takes, with the cutting of its crops."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=config.lr)
    seconds: list[float] = []
    while len(seconds) <= FEWEST or (len(seconds) <= MOST and sum(seconds[1:]) < MEASURED_SECONDS):
        begun = time.monotonic()
        items = [dataset[position] for position in range(config.batch_size)]
        features, masks = (torch.stack(part).to(accelerator.device) for part in zip(*items, strict=True))
        with accelerator.autocast():
            loss = model(features, masks)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for the device
        seconds.append(time.monotonic() - begun)
    return median_when_warm(seconds)


def median_when_warm(seconds: list[float]) -> float:
    """Return the median without the first, which is slow as first passes are, if there are others."""
    return statistics.median(seconds[1:] or seconds)
