"""How long a pre-training takes and how much memory: measured on a few passes, before it starts."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from unip.pretraining.config import PretrainConfig
from unip.pretraining.objective import Objective
from unip.training.pace import duration

GPU_MINUTES = 10.0
FEWEST_CROPS = 10_000  # that a training keeps, however slow the GPU is: fewer teach nothing
CROPS = {"cpu": 4, "cuda": 32}  # of a measured pass
PASSES = 4  # the first one is slow
MEMORY_SHARE = 0.7  # of a GPU's free memory that a pass may take


@dataclass(frozen=True)
class Costs:
    """What a crop costs in training.

    Attributes:
        seconds: Forward and backward, teachers included; cutting and reading crops are not.
        memory: Bytes on the GPU; 0 on a CPU.
        free: Bytes that are free there.
    """

    seconds: float
    memory: int = 0
    free: int = 0


def measure(objective: Objective, config: PretrainConfig, accelerator: Accelerator) -> Costs:
    """Run a few passes on random crops; no weight and no random state is changed."""
    device = accelerator.device
    on_gpu = device.type == "cuda"
    count = min(CROPS.get(device.type, 4), config.batch_size)
    objective.to(device).train()
    seconds: list[float] = []
    with torch.random.fork_rng():
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device) if on_gpu else 0
        images = torch.randint(0, 256, (count, 1, config.size, config.size), dtype=torch.uint8).to(device)
        positions = torch.arange(count, device=device)
        for _ in range(PASSES):
            begun = time.monotonic()
            with accelerator.autocast():
                loss = objective(images, positions == 0, positions)["loss"]
            loss.backward()
            loss.item()  # waits for the device
            seconds.append(time.monotonic() - begun)
    for parameter in objective.parameters():
        parameter.grad = None
    each = statistics.median(seconds[1:]) / count
    if not on_gpu:
        return Costs(each)
    used = max(0, torch.cuda.max_memory_allocated(device) - held)
    torch.cuda.empty_cache()
    return Costs(each, used // count, torch.cuda.mem_get_info(device)[0])


def fit(config: PretrainConfig, costs: Costs, *, may_change: set[str], ranks: int = 1) -> tuple[dict[str, int], str]:
    """Split batches that are too large for the GPU, and leave out steps that would take it too long.

    Args:
        config: The settings.
        costs: Of this machine.
        may_change: Settings that are open.
        ranks: GPUs that train together.

    Returns:
        The settings that change, and what to say.
    """
    changes: dict[str, int] = {}
    crops = config.steps * config.batch_size
    seconds = crops * costs.seconds / ranks
    if costs.memory and "accumulate" in may_change:
        most = max(1, int(MEMORY_SHARE * costs.free / costs.memory)) * ranks
        passes = 2 ** math.ceil(math.log2(max(1.0, config.batch_size / most)))
        if passes > 1 and config.batch_size % (passes * ranks) == 0:
            changes["accumulate"] = passes
    limit = 60 * GPU_MINUTES
    said = f"about {duration(seconds)} for {config.steps:,} steps: {1000 * costs.seconds:,.3g} ms a crop"
    if costs.memory and seconds > limit and "steps" in may_change:
        steps = max(math.ceil(FEWEST_CROPS / config.batch_size), int(config.steps * limit / seconds))
        if steps < config.steps:
            changes["steps"] = steps
            said += f"; {steps:,} steps instead, to stay within {GPU_MINUTES:g} minutes (--steps)"
    if not costs.memory:
        said += ", measured on this CPU; --steps sets another length"
    if "accumulate" in changes:
        said += f"; {changes['accumulate']} passes a step, which fit its memory"
    return changes, said
