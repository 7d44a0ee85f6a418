"""A trained model to be called: one class, whatever engine runs it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.data.images.config import Conversion
from unip.data.labelled.classes import Classes
from unip.deployment.config import LoadConfig
from unip.deployment.description import as_html, as_text
from unip.deployment.engine import Engine, ModelFacts, Segmented, Wanted
from unip.deployment.engines.opening import open_engine
from unip.deployment.inputs import Given, Inputs, Reader, Unit
from unip.deployment.result import ROWS_AT_ONCE, UNKNOWN, Result, Timings
from unip.deployment.warn import warn
from unip.errors import UnipError
from unip.hints import MODEL, missing
from unip.paths import is_dir
from unip.runtime.shared import Arena
from unip.runtime.workers import lost_process_told
from unip.segmentation.calibration import Calibration, unsure
from unip.segmentation.settings import Workers
from unip.segmentation.training_images import ImageWatch, Remedies

if TYPE_CHECKING:
    from torch import Tensor

    from unip.deployment.export.program import ExportResult
    from unip.segmentation.evaluation import EvaluateResult

#: One frame that is no path.
Frame = Image.Image | npt.NDArray[Any]
MASK_AND_CONFIDENCE = Wanted()
IN_PYTHON = Remedies(
    nodata="load the model with nodata =",
    palette='load the model with palette="{}"',
    scale="loading the model with scale {}",
)


@dataclass(frozen=True)
class Unreadable:
    """A frame that could not be read.

    Attributes:
        given: The frame.
        problem: Why.
    """

    given: Given
    problem: UnipError


class Model:
    """A trained model: ``result = model("frame.png")``; :func:`unip.load` returns one.

    Several threads may call it at once. Frames that are given together run in batches.

    Args:
        engine: What runs it.
        loaded: How it was loaded.
    """

    def __init__(self, engine: Engine, loaded: LoadConfig | None = None) -> None:
        self.engine = engine
        self.loaded = loaded or LoadConfig()
        self._lock = Lock()
        self._watch = ImageWatch(engine.facts.images, warn, IN_PYTHON, engine.facts.scaling)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *, revision: str | None = None, **settings: Any) -> Model:
        """Load a model from a folder, or from a repository of the Hugging Face hub or its local cache.

        Args:
            name: A run or model folder, or ``OWNER/NAME``.
            revision: Of the repository: a branch, a tag or a commit.
            settings: Those of :func:`unip.load`.

        Raises:
            UnipError: There is neither, it is no segmentation model, or the hub cannot be reached.
        """
        at = "" if revision is None else f"@{revision}"
        source = os.fspath(name) if is_dir(name) else f"hf:{os.fspath(name)}{at}"
        config = LoadConfig.make(**settings)
        return cls(open_engine(source, config), config)

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model: engine, device, precision, sizes."""
        return self.engine.facts

    @property
    def classes(self) -> Classes:
        """Names and colours of the classes."""
        return self.facts.classes

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class id, from 0 on."""
        return self.classes.names

    @property
    def conversion(self) -> Conversion:
        """How counts or temperatures become the 8 bits that it was trained on."""
        return self.facts.conversion

    @property
    def calibration(self) -> Calibration | None:
        """What its confidence means, measured on frames that were not trained on; None: it was not measured."""
        return self.facts.calibration

    @overload
    def __call__(  # type: ignore[overload-overlap]  # arrays can be iterated over, too
        self,
        frames: Frame,
        /,
        *,
        stream: bool = False,
        unit: Unit | None = None,
        risk: float | None = None,
        probabilities: bool | None = None,
        workers: Workers = "auto",
    ) -> Result: ...
    @overload
    def __call__(
        self,
        frames: str | os.PathLike[str] | Tensor,
        /,
        *,
        stream: Literal[False] = False,
        unit: Unit | None = None,
        risk: float | None = None,
        probabilities: bool | None = None,
        workers: Workers = "auto",
    ) -> Any: ...  # of a folder or a batch a list
    @overload
    def __call__(
        self,
        frames: Iterable[object],
        /,
        *,
        stream: Literal[False] = False,
        unit: Unit | None = None,
        risk: float | None = None,
        probabilities: bool | None = None,
        workers: Workers = "auto",
    ) -> list[Result]: ...
    @overload
    def __call__(
        self,
        frames: Iterable[object] | os.PathLike[str],
        /,
        *,
        stream: Literal[True],
        unit: Unit | None = None,
        risk: float | None = None,
        probabilities: bool | None = None,
        workers: Workers = "auto",
    ) -> Iterator[Result]: ...
    def __call__(
        self,
        frames: object,
        /,
        *,
        stream: bool = False,
        unit: Unit | None = None,
        risk: float | None = None,
        probabilities: bool | None = None,
        workers: Workers = "auto",
    ) -> Any:
        """Segment one frame or many.

        Args:
            frames: One frame: the path of an image file, a Pillow image, a numpy array ``(H, W)`` or ``(H, W, 3)`` RGB,
                a torch tensor ``(H, W)``, ``(1, H, W)`` or ``(3, H, W)``. Many: a list or a generator of them, a
                folder, a batch ``(B, C, H, W)``. Arrays are uint8 pictures, uint16 counts, or floats with a ``unit``.
            stream: Return many results one by one, as they come, instead of a list. A frame is read when its batch is
                collected; a model that is loaded with ``batch_size=1`` runs each frame as soon as it is given.
            unit: What the numbers of float arrays are.
            risk: The share of wrong pixels that is accepted for each class, such as 0.05: pixels of less confidence
                than that takes are 255 in the mask.
            probabilities: Keep those of every class; None: of a single frame that is not run in strips.
            workers: Processes that decode files.

        Returns:
            The result of one frame; of many, a list of results, or an iterator over them.

        Raises:
            UnipError: A frame cannot be read or is none, the risk cannot be kept to, or the memory is too small.
        """
        inputs = Inputs.of(frames)
        kept = not inputs.are_many if probabilities is None else probabilities
        wanted = Wanted(probabilities=kept, of_large=probabilities is True)
        results = self.segment(inputs.items, unit=unit, risk=risk, wanted=wanted, workers=workers)
        if not inputs.are_many:
            return next(_readable(results))
        return _readable(results) if stream else list(_readable(results))

    predict = __call__  # as in most packages; `unip.predict` writes what it finds to a folder

    def segment(
        self,
        items: Iterable[object],
        *,
        unit: Unit | None = None,
        risk: float | None = None,
        wanted: Wanted = MASK_AND_CONFIDENCE,
        workers: Workers = "auto",
        watch: ImageWatch | None = None,
        arena: Arena | None = None,
    ) -> Iterator[Result | Unreadable]:
        """Segment frames one by one; one that cannot be read is a value, so that the others are still segmented.

        Args:
            items: Frames; paths must be of files.
            unit: As when the model is called.
            risk: As when the model is called.
            wanted: What to compute beside the mask.
            workers: Processes that decode files.
            watch: Says in which way frames differ from those of training; left out, by a warning of Python.
            arena: See :meth:`unip.deployment.engine.Engine.segment`.

        Raises:
            UnipError: The risk cannot be kept to; or, while it runs, the memory is too small or a process is gone.
        """
        thresholds = None if risk is None else self.thresholds(risk)
        images = self.facts.images
        reader = Reader(self.conversion, None if images is None else images.channel, unit)
        wanted = replace(wanted, confidence=wanted.confidence or risk is not None)

        def results() -> Iterator[Result | Unreadable]:
            with lost_process_told("segmenting"):
                for found in self.engine.segment(items, reader, wanted, workers, arena):
                    if found.given.problem is not None:
                        yield Unreadable(found.given, found.given.problem)
                        continue
                    with self._lock:
                        notes = (watch or self._watch).look(found.given, found.given.name, found.given.doubts)
                    yield self._result(found, notes, thresholds, risk)

        return results()

    def thresholds(self, risk: float) -> npt.NDArray[np.float32]:
        """Return from which confidence on pixels of each class are wrong in at most a share ``risk``, ``(C,)``.

        See :meth:`unip.segmentation.calibration.Calibration.thresholds`.

        Raises:
            UnipError: It was not measured, the risk is no share, or no class can be kept to it.
        """
        if self.calibration is None:
            raise UnipError(
                f"{self.facts.name} cannot say what its confidence means: it has no calibration",
                "Measure it on labelled frames that it was not trained on: unip evaluate MODEL DATA --split val "
                "--calibrate; fine-tuning with --val does so in the end.",
            )
        found = self.calibration.thresholds(risk)
        if (found > 1).all():
            raise UnipError(
                f"{self.facts.name} cannot keep any class to a risk of {100 * risk:g} %: no pixel would get one. That "
                f"takes {ceil(1 / risk) - 1} images or more that show the class; {self.calibration.images} were seen",
                "Give a higher risk, or measure on more frames that it was not trained on: unip evaluate MODEL DATA "
                "--calibrate.",
            )
        return found

    def evaluate(self, data: str | os.PathLike[str], **settings: Any) -> EvaluateResult:
        """Compare with labelled images, as :func:`unip.evaluate` does with this model, loaded as this one is.

        Args:
            data: Labelled images, a segmentation folder or ``KIND:PATH``.
            settings: Those of :func:`unip.evaluate`, such as ``split="val"`` and ``out``.

        Returns:
            Scores and where they were written; ``result.scores.miou``.

        Raises:
            UnipError: As the verb does; or it has no setting for how the model was loaded.
        """
        from unip.deployment.methods import evaluate_loaded

        return evaluate_loaded(self.facts, self.loaded, {"data": data, **settings})

    def export(self, to: str = "onnx", **settings: Any) -> ExportResult:
        """Write a file for another engine, as :func:`unip.export` does with this model.

        Args:
            to: ``onnx``, ``openvino`` or ``torch``.
            settings: Those of :func:`unip.export`, such as ``precision="fp16"`` and ``out``.

        Returns:
            The file and how it compares with the model; ``unip.load(result.file)`` loads it.

        Raises:
            UnipError: As the verb does; the model is a file; or it reads frames in another way than its folder says.
        """
        from unip.deployment.methods import export_loaded

        return export_loaded(self.facts, self.loaded, {"to": to, **settings})

    def push_to_hub(
        self, repository: str, *, private: bool = False, token: str | None = None, message: str = "Add a unip model"
    ) -> str:
        """Upload the model folder to the Hugging Face hub; :meth:`from_pretrained` loads it from there.

        Args:
            repository: ``OWNER/NAME``; it is made if it is not there.
            private: Make it a private one.
            token: Of the hub; None: that of ``hf auth login``.
            message: Of the commit.

        Returns:
            The address of the commit.

        Raises:
            UnipError: The model is a single file, or the hub refuses or cannot be reached.
        """
        from unip.deployment.hub import push_folder

        if self.facts.folder is None:
            raise UnipError(
                f"{self.facts.name} is a file for one engine, not a model folder", "Load the folder, and push that."
            )
        return push_folder(self.facts.folder, repository, private=private, token=token, message=message)

    def _result(
        self,
        found: Segmented,
        notes: Sequence[str],
        thresholds: npt.NDArray[np.float32] | None,
        risk: float | None,
    ) -> Result:
        given, mask = found.given, found.ids
        if thresholds is not None and found.confidence is not None:
            mask = mask.copy()
            for first in range(0, len(mask), ROWS_AT_ONCE):
                rows = slice(first, first + ROWS_AT_ONCE)
                mask[rows][unsure(mask[rows], found.confidence[rows], thresholds)] = UNKNOWN
        return Result(
            mask=mask,
            classes=self.classes,
            image=given.image,
            name=given.name,
            path=given.path,
            timings=Timings(given.read_seconds, found.seconds),
            notes=tuple(notes),
            is_calibrated=self.calibration is not None,
            risk=risk,
            scale=found.scale,
            windows=found.windows,
            engine=found.engine or self.facts.engine,
            found_confidence=found.confidence,
            found_probabilities=found.probabilities,
            given_kelvin=given.kelvin,
        )

    if not TYPE_CHECKING:  # type checkers would take every name for one that is there

        def __getattr__(self, name: str) -> Any:
            raise missing("a model", name, MODEL)

    def __repr__(self) -> str:
        return as_text(self.facts)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_html(self.facts)


def _readable(results: Iterator[Result | Unreadable]) -> Iterator[Result]:
    for each in results:
        if isinstance(each, Unreadable):
            raise each.problem
        yield each
