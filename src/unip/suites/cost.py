"""What a model costs: floating-point operations, parameters, images per second."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unip.errors import UnipError
from unip.runtime.device import choose_device, choose_precision, device_name, precision_name
from unip.segmentation.model import Segmenter, SegmenterSpec
from unip.suites.suite import SpeedBatch
from unip.suites.tasks import CostTask
from unip.training.optim import count_parameters

MIN_TIMING_SECONDS = 1.0  # of timing, at least
WARM_UP_PASSES = 3  # passes


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Attributes:
        flops: Of one crop.
        parameters: How many it has.
        images_per_second: Crops.
        speed_batch: Crops at once when that was timed.
        speed_size: Side of the crops, in pixels.
        speed_precision: Such as ``bf16``.
        speed_device: Name of what it ran on.
    """

    flops: int
    parameters: int
    images_per_second: float
    speed_batch: int
    speed_size: int
    speed_precision: str
    speed_device: str


def measure_cost(task: CostTask) -> Cost:
    """Measure a model with random weights, which cost what trained ones do."""
    spec = SegmenterSpec(**task.spec)
    segmenter = Segmenter(spec).eval()
    device = choose_device(task.device)
    dtype = choose_precision("auto", device)
    flops = count_flops(segmenter, spec.crop, backbone_only=task.backbone_only)
    parameters = count_parameters((segmenter.backbone if task.backbone_only else segmenter).parameters())
    segmenter.to(device)

    def seconds(batch: int) -> float:
        images = torch.zeros(batch, 3, spec.crop, spec.crop, dtype=torch.uint8, device=device)

        def run() -> None:
            with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                _forward(segmenter, images, backbone_only=task.backbone_only)

        return seconds_per_call(run, device)

    batch, taken = time_batch(seconds, task.batch, device)
    precision = precision_name(dtype)
    return Cost(flops, parameters, batch / taken, batch, spec.crop, precision, device_name(device))


@torch.no_grad()
def count_flops(segmenter: Segmenter, size: int, *, backbone_only: bool = False) -> int:
    """Count the floating-point operations of one square crop with torch's counter: two for each multiplication.

    It counts matrix products and convolutions, as is usual; nothing is computed, the tensors have no values.
    """
    empty = copy.deepcopy(segmenter).to("meta")
    images = torch.zeros(1, 3, size, size, dtype=torch.uint8, device="meta")
    # fused attention is one operator, whose count depends on the device; plain attention is two matrix products
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        _forward(empty, images, backbone_only=backbone_only)
    return int(counter.get_total_flops())


def time_batch(seconds: Callable[[int], float], batch: SpeedBatch, device: torch.device) -> tuple[int, float]:
    """Time a batch; ``auto``: of as many crops as keep an NVIDIA GPU busy, or as fit its memory.

    With few crops it waits for its kernels to be started, and equal models differ by half.

    Args:
        seconds: Seconds for a batch of so many.
        batch: How many.
        device: Where.

    Returns:
        The batch, and its seconds.

    Raises:
        UnipError: The device's memory is too small.
    """
    count = (64 if device.type == "cuda" else 8) if batch == "auto" else batch
    while True:
        try:
            return count, seconds(count)
        except torch.OutOfMemoryError as error:
            if batch != "auto" or count == 1:
                raise UnipError(
                    f"the device ran out of memory in timing {count} crops at once",
                    "Lower the suite's speed_batch, or leave it out.",
                ) from error
            count //= 2


def seconds_per_call(run: Callable[[], None], device: torch.device) -> float:
    """Time a call, after some to warm up, over at least three calls and a second."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(WARM_UP_PASSES):
        run()
    wait()
    begun, calls = time.perf_counter(), 0
    while calls < WARM_UP_PASSES or time.perf_counter() - begun < MIN_TIMING_SECONDS:
        run()
        wait()
        calls += 1
    return (time.perf_counter() - begun) / calls


def _forward(segmenter: Segmenter, images: Tensor, *, backbone_only: bool) -> None:
    if backbone_only:
        segmenter.features(segmenter.normalise(images))
    else:
        segmenter(images)
