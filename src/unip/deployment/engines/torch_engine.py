"""A model folder run by torch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from unip.data.sampling.frames import Frame, make_frame, unreadable_frame
from unip.deployment.config import LoadConfig
from unip.deployment.engine import ModelFacts, Segmented, Wanted
from unip.deployment.inputs import Given, Reader
from unip.errors import UnipError
from unip.runtime.device import choose_device, choose_precision, device_name
from unip.segmentation.calibration import Calibration
from unip.segmentation.inference import Inference, decoded
from unip.segmentation.model_folder import model_folder
from unip.segmentation.reliability import confidence_of
from unip.segmentation.settings import Workers
from unip.segmentation.storage import load_segmenter


class TorchEngine:
    """A model folder, ready to run.

    Args:
        folder: Of a model or a run, or the name of one that ships.
        config: Device, precision and windows.
        name: What it was loaded by.

    Raises:
        UnipError: There is no such model, it is damaged, or the device is not there.
    """

    def __init__(self, folder: Path, config: LoadConfig, name: str) -> None:
        segmenter = load_segmenter(folder)
        spec, place = segmenter.spec, model_folder(folder)
        device = choose_device(config.device)
        dtype = choose_precision(config.precision, device)
        self.calibration = Calibration.read(place, len(spec.classes.names))
        self.facts = ModelFacts(
            name=name,
            engine="torch",
            device=device_name(device),
            precision=str(dtype).removeprefix("torch."),
            classes=spec.classes,
            conversion=config.convert(spec.conversion),
            images=spec.images,
            short_side=spec.short_side,
            calibration=self.calibration,
            folder=place,
        )
        self.inference = Inference(
            segmenter,
            device=device,
            dtype=dtype,
            window=config.window,
            batch_size=config.batch_size,
            compiled=config.compile,
        )

    def segment(self, items: Iterable[object], reader: Reader, wanted: Wanted, workers: Workers) -> Iterator[Segmented]:
        """Segment frames, see :class:`unip.deployment.engine.Engine`."""
        given: dict[int, Given] = {}  # by index, while their batch is collected
        for group in self.inference.groups(_frames(items, _Preparing(reader, self.facts.short_side), workers, given)):
            start = time.perf_counter()
            with self.inference.lock:  # while one thread captures a CUDA graph, no other may wait for the GPU
                found = [(frame, self._arrays(logits, wanted)) for frame, logits in self.inference.run(group)]
            seconds = (time.perf_counter() - start) / len(group)
            for frame, arrays in found:
                one = given.pop(frame.index)
                yield Segmented.unreadable(one) if frame.problem else Segmented(one, *arrays, seconds=seconds)

    def _arrays(self, logits: Tensor, wanted: Wanted) -> tuple[Any, Any, Any]:
        """Return ids, confidence and probabilities on the processor, as far as they are wanted."""
        if not logits.numel():
            return None, None, None
        temperature = 1.0 if self.calibration is None else self.calibration.temperature
        ids = logits.argmax(0).byte().cpu().numpy()
        confidence = confidence_of(logits, temperature).cpu().numpy() if wanted.confidence else None
        probabilities = (logits / temperature).softmax(0).cpu().numpy() if wanted.probabilities else None
        return ids, confidence, probabilities


@dataclass(frozen=True)
class _Preparing:
    """Reads a frame and resizes it to the model's short side."""

    reader: Reader
    short_side: int

    def __call__(self, index: int, item: object) -> tuple[Given, Frame]:
        given, _ = self.reader.read(index, item)
        if given.problem is not None:
            return given, unreadable_frame(index, given.problem)
        try:
            return given, make_frame(index, given.image, self.short_side)
        except UnipError as error:  # it would be too large for the memory
            problem = UnipError(f"{given.name}: {error.what}", error.fix)
            return replace(given, problem=problem), unreadable_frame(index, problem)


class _Files(Dataset[tuple[Given, Frame]]):
    """Files, read and resized by worker processes."""

    def __init__(self, paths: Sequence[Path], prepare: _Preparing) -> None:
        self.paths, self.prepare = paths, prepare

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Given, Frame]:
        return self.prepare(index, self.paths[index])


def _frames(items: Iterable[object], prepare: _Preparing, workers: Workers, given: dict[int, Given]) -> Iterator[Frame]:
    """Yield frames to run, and keep what each was made from in ``given``."""
    paths = [item for item in items if isinstance(item, Path)] if isinstance(items, Sequence) else []
    pairs: Iterable[tuple[Given, Frame]]
    if isinstance(items, Sequence) and len(paths) == len(items):
        pairs = decoded(_Files(paths, prepare), workers)
    else:
        pairs = (prepare(index, item) for index, item in enumerate(items))
    for one, frame in pairs:
        given[frame.index] = one
        yield frame
