"""Running a segmentation model over image files: device, precision, decoding ahead, windows, original size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from unip.data.corruptions import CorruptFrames
from unip.data.images import read_image8
from unip.data.pairs import SegmentationData
from unip.data.parallel import usable_cores
from unip.data.reading import DEFAULT, Reading
from unip.errors import UnipError
from unip.graphs import NotRecordable, Recorded
from unip.progress import say
from unip.segment.heads import resize
from unip.segment.model import Segmenter
from unip.segment.sliding import sliding_logits, window_starts
from unip.stopping import leave_signals_to_parent

MOST_LOGITS = 2**28  # of the images in memory at once: 1 GiB
OFTEN = 3  # times that a shape of batches comes before it is recorded, which takes as long as four of them


# The settings that evaluation and prediction share.
Window = Annotated[
    Literal["slide", "whole"],
    Field(description="Overlapping windows of the training crop's size, or the whole image at once."),
]
WindowBatch = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=1)],
    Field(description="Windows that run together; auto: 8, on a GPU 24, or whole images that are as large."),
]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], Field(description="Where to run.")]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    Field(description="Arithmetic; auto is bf16 where an NVIDIA GPU has it, fp32 elsewhere."),
]
Workers = Annotated[
    Annotated[int, Field(ge=0)] | Literal["auto"],
    Field(description="Processes that decode images; auto: up to 8, none on two cores."),
]


def choose_device(name: str) -> torch.device:
    """Return the device to run on; ``auto`` prefers CUDA, then MPS, then the CPU.

    Raises:
        UnipError: The device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, usable in there.items() if usable)
    if not there[name]:
        raise UnipError(f"device is {name}, but torch sees none", "Use --device auto or --device cpu.")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Return what a device is called: a GPU's model, else its kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in.

    Raises:
        UnipError: float16 was asked for on the CPU.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise UnipError("precision fp16 needs a GPU", "Use bf16 or fp32 on the CPU.")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the size that an image has when its short side is scaled to ``short_side`` pixels, ratio kept."""
    factor = short_side / min(height, width)
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


class OutOfMemory(UnipError):
    """The device's memory is too small for the windows that run together."""


@dataclass
class Frame:
    """One decoded image.

    Attributes:
        index: Its place in the list of paths.
        image: uint8 as stored, or corrupted: ``(H, W)`` if it is grey, else RGB ``(H, W, 3)``.
        pixels: The same as uint8 ``(1, h, w)`` or ``(3, h, w)``, resized to the model's short side; it
            may share the memory of ``image``.
        mask: Class ids ``(H, W)`` where there is truth, 255 without a label.
        problem: Why it could not be read; the arrays are empty then.
    """

    index: int
    image: npt.NDArray[np.uint8]
    pixels: Tensor
    mask: npt.NDArray[np.uint8] | None = None
    problem: UnipError | None = None


class Frames(Dataset[Frame]):
    """Decodes images (and masks) and resizes them for a model; a broken file gives a frame with its problem.

    Args:
        images: Image files, or pairs of images and masks.
        short_side: To resize to, in pixels; bilinear with antialiasing, as in training.
        reading: How counts become 8 bits; left out, as pairs say, or by default.
        corruption: What befalls the 8-bit images, at their own size.
    """

    def __init__(
        self,
        images: Sequence[Path] | SegmentationData,
        short_side: int,
        reading: Reading | None = None,
        corruption: CorruptFrames | None = None,
    ) -> None:
        self.images, self.short_side, self.reading, self.corruption = images, short_side, reading, corruption

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Frame:
        try:
            if isinstance(self.images, SegmentationData):
                pixels8, mask = self.images.read(index, self.reading)
            else:
                pixels8, mask = read_image8(self.images[index], self.reading or DEFAULT), None
            image = pixels8 if self.corruption is None else self.corruption(pixels8, index)
        except UnipError as error:
            # as a value: raised in a worker it would arrive with that worker's traceback as its text
            return Frame(
                index, np.zeros((0, 0), np.uint8), torch.zeros(1, 0, 0), problem=UnipError(error.what, error.fix)
            )
        pixels = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1)))
        size = short_side_size(image.shape[0], image.shape[1], self.short_side)
        if size != image.shape[:2]:
            pixels = TF.resize(pixels, list(size), antialias=True)
        return Frame(index, image, pixels, mask)


def segment_frames(
    segmenter: Segmenter,
    frames: Frames,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    window: Window = "slide",
    batch_size: WindowBatch = "auto",
    workers: Workers = "auto",
) -> Iterator[tuple[Frame, Tensor]]:
    """Run a model over frames.

    Args:
        segmenter: In evaluation mode; moved to ``device``.
        frames: Resized to the model's short side.
        device: Where to run.
        dtype: What to compute in.
        window: Sliding windows or whole images.
        batch_size: Windows that run together; ``auto``: 8, on a GPU 24, where small batches leave it idle; of whole
            images as many as are as large.
        workers: Processes that decode images.

    Yields:
        Each frame in order, with float32 logits ``(C, H, W)`` at its stored size, on the device; no logits
        ``(0, 0, 0)`` for a frame that could not be read.

    Raises:
        OutOfMemory: The device's memory is too small.
    """
    segmenter.to(device)
    spec = segmenter.spec
    together = (24 if device.type == "cuda" else 8) if batch_size == "auto" else batch_size

    def logits_of(images: Tensor) -> Tensor:
        with _arithmetic(device, dtype):  # here: what it casts and keeps must not outlive a recording
            return segmenter(images)  # type: ignore[no-any-return]

    def windows(frame: Frame) -> int:
        """How many windows a frame has; a whole one counts as those it is as large as, but for a given batch size."""
        sides = frame.pixels.shape[-2:]
        if window == "slide":
            return prod(len(window_starts(side, spec.crop, spec.stride)) for side in sides)
        return 1 if batch_size != "auto" else -(-prod(sides) // spec.crop**2)

    model = _ReplayedBatches(logits_of) if device.type == "cuda" else logits_of
    crop, at_once = spec.crop, together
    try:
        for group in _groups(frames, workers, together, len(spec.classes.names), windows):
            good = [frame for frame in group if frame.problem is None]
            at_once = min(together, len(good) if window == "whole" else sum(map(windows, good)))
            pixels = [rgb(frame.pixels.to(device, non_blocking=True)) for frame in good]
            if window == "whole":
                crop = max([1, *(max(p.shape) for p in pixels)])
            with torch.inference_mode():
                found = iter(sliding_logits(model, pixels, crop=crop, stride=spec.stride, batch=together))
            for frame in group:
                if frame.problem is not None:
                    yield frame, torch.zeros(0, 0, 0)
                else:
                    yield frame, resize(next(found)[None], (frame.image.shape[0], frame.image.shape[1]))[0]
    except torch.OutOfMemoryError as error:
        ways = {f"a --batch-size below {at_once}": at_once > 1, "--window slide": window == "whole"}
        raise OutOfMemory(
            f"the device ran out of memory with windows of {crop} pixels, {at_once} at a time",
            f"Use {', or '.join(way for way, is_left in ways.items() if is_left) or '--device cpu'}.",
        ) from error


def rgb(pixels: Tensor) -> Tensor:
    """Return the three channels that a model takes, of ``(..., 1 or 3, h, w)``; those of grey share their memory."""
    return pixels.expand(*pixels.shape[:-3], 3, -1, -1)


class _ReplayedBatches:
    """A model whose batches of the first shape that keeps coming are a CUDA graph each; others run as ever."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        self.model = model
        self.seen: Counter[torch.Size] = Counter()
        self.shape: torch.Size | None = None
        self.recorded: Recorded[Tensor] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        self.seen[images.shape] += 1
        if self.shape is None and self.seen[images.shape] == OFTEN:
            self.shape = images.shape
            try:
                self.recorded = Recorded(self.model, (images,))
            except torch.OutOfMemoryError:
                pass  # a recording keeps memory of its own; without it there may be enough
            except NotRecordable as error:
                why = str(error).partition("\n")[0]
                say(f"note: windows run kernel by kernel, as they cannot be recorded: {why}")
        if self.recorded is None or images.shape != self.shape:
            return self.model(images)
        return self.recorded(images)


def _groups(
    frames: Frames, workers: Workers, together: int, classes: int, weigh: Callable[[Frame], int]
) -> Iterator[list[Frame]]:
    """Collect frames until they weigh as much as a batch, or their logits would take much memory.

    What is left of a group after its full batches runs as a smaller one.
    """
    group: list[Frame] = []
    weight = logits = 0
    for frame in _decoded(frames, workers):
        group.append(frame)
        weight += weigh(frame)
        logits += classes * frame.pixels.shape[-2:].numel()
        if weight >= together or logits >= MOST_LOGITS:
            yield group
            group, weight, logits = [], 0, 0
    if group:
        yield group


def _decoded(frames: Frames, workers: Workers) -> DataLoader[Frame]:
    count = _default_workers(len(frames)) if workers == "auto" else workers
    dataset: Dataset[Any] = frames
    ahead = 8 if count else None  # frames per worker
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=count,
        prefetch_factor=ahead,
        worker_init_fn=leave_signals_to_parent,
    )


def _default_workers(images: int) -> int:
    cores = usable_cores()
    return 0 if cores <= 2 or images < 16 else min(8, cores)


def _arithmetic(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
