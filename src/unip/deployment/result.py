"""What a model found in one frame."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.data.images.decoding import read_kelvin
from unip.data.images.orientation import as_shown, save_options
from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.outlines import look_at_picture
from unip.data.labelled.overlay import (
    OVERLAY_PIXELS,
    add_legend,
    draw_overlay,
    palette_image,
    reduce_mask,
    reduce_picture,
    reduction,
    tinted,
)
from unip.data.labelled.shares import percent_of_pixels
from unip.errors import UnipError
from unip.hints import RESULT, missing
from unip.outputs import writing
from unip.paths import is_file

if TYPE_CHECKING:
    from unip.deployment.polygons import Polygon

Ids = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

ROWS_AT_ONCE = 512  # of a mask, where numpy makes larger numbers of its ids
UNKNOWN = IGNORE  # the id of pixels that a model is not sure enough of, for the risk that was wanted


@dataclass(frozen=True)
class Timings:
    """How long a frame took, in seconds.

    Attributes:
        read_seconds: Reading and converting it to 8 bits.
        model_seconds: The model with resizing, its share of the batch; on a GPU with the wait for batches before it.
    """

    read_seconds: float
    model_seconds: float


@dataclass(frozen=True)
class ClassSummary:
    """How much of a class there is in a frame.

    Attributes:
        name: Of the class.
        class_id: Its id in the mask.
        pixels: How many have it.
        share: Of all pixels.
        confidence: Mean of its pixels; None: confidence was not computed.
        kelvin_min: Lowest temperature of its pixels; None: the frame has no temperatures, or none there.
        kelvin_mean: Their mean.
        kelvin_max: The highest.
    """

    name: str
    class_id: int
    pixels: int
    share: float
    confidence: float | None
    kelvin_min: float | None = None
    kelvin_mean: float | None = None
    kelvin_max: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The mask of one frame, and what belongs to it. All arrays have the size of the frame as it is stored.

    Attributes:
        mask: Class ids, uint8 ``(H, W)``; 255 where the model is not sure enough for the ``risk`` that was wanted.
        classes: Names and colours of the ids.
        image: What the model saw, uint8: grey ``(H, W)`` or RGB ``(H, W, 3)``.
        name: The path of the frame, or which of those given it is.
        path: Its file, if it came from one.
        timings: How long it took.
        notes: What differs from the frames of training, or is strange, each as a sentence.
        is_calibrated: Whether confidence was corrected on frames that were not trained on.
        risk: The share of wrong pixels that was wanted at most, if one was.
        scale: By what the frame was resized for the model.
        windows: How many windows it was segmented in; 1: as a whole.
        engine: What ran it, such as ``torch``.
    """

    mask: Ids
    classes: Classes
    image: Ids
    name: str
    path: Path | None
    timings: Timings
    notes: tuple[str, ...] = ()
    is_calibrated: bool = False
    risk: float | None = None
    scale: float = 1.0
    windows: int = 1
    engine: str = ""
    found_confidence: Floats | None = field(default=None, repr=False)
    found_probabilities: Floats | None = field(default=None, repr=False)
    given_kelvin: Floats | None = field(default=None, repr=False)

    @property
    def confidence(self) -> Floats:
        """Probability of each pixel's class, float32 ``(H, W)``; also of pixels that are 255 in the mask.

        Raises:
            UnipError: It was not computed.
        """
        if self.found_confidence is None:
            raise UnipError(f"the confidence of {self.name} was not computed", "Call the model for it.")
        return self.found_confidence

    @property
    def probabilities(self) -> Floats:
        """Probability of every class, float32 ``(C, H, W)``.

        Raises:
            UnipError: They were not kept.
        """
        if self.found_probabilities is None:
            raise UnipError(
                f"the probabilities of {self.name} were not kept",
                "Of many or large frames they take much memory: model(frames, probabilities=True).",
            )
        return self.found_probabilities

    @cached_property
    def kelvin(self) -> Floats | None:
        """Temperatures, float32 ``(H, W)``: those that were given, or of a radiometric file, which is read for them.

        None if there are none: counts of a camera are no temperatures.

        Raises:
            UnipError: The file is radiometric, but cannot be read or needs a package that is missing.
        """
        if self.given_kelvin is not None or self.path is None:
            return self.given_kelvin
        return read_kelvin(self.path, self.size)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class id, from 0 on."""
        return self.classes.names

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.mask.shape
        return height, width

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many pixels each class has, ``(C,)``."""
        found = np.zeros(256, np.int64)
        for row in range(0, len(self.mask), ROWS_AT_ONCE):  # Pillow copies them; numpy makes 8 bytes of each pixel
            found += Image.fromarray(self.mask[row : row + ROWS_AT_ONCE]).histogram()
        return found[: len(self.classes.names)]

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes in the mask, those with most pixels first."""
        order = np.argsort(-self.counts, kind="stable")
        return tuple(self.classes.names[index] for index in order if self.counts[index])

    @property
    def unknown_share(self) -> float:
        """The share of pixels that the model is not sure enough of."""
        return float((self.mask == UNKNOWN).mean())

    @cached_property
    def orientation(self) -> int:
        """The EXIF orientation of the file, by which viewers turn its pixels; 1 is as stored."""
        return 1 if self.path is None else look_at_picture(self.path, of_any_size=True).orientation

    def mask_image(self) -> Image.Image:
        """Return the mask as an indexed image: its values are ids, and it shows the classes' colours."""
        return palette_image(self.mask, self.classes)

    def plot(self, *, alpha: float = 0.5, legend: bool = True, max_pixels: int | None = OVERLAY_PIXELS) -> Image.Image:
        """Draw the mask over the frame, turned as viewers show it.

        Args:
            alpha: Strength of the colours, 0 to 1.
            legend: Add a strip below that names the classes.
            max_pixels: Reduce a frame of more pixels by a whole number; small regions stay visible. None: draw all.
        """
        by = 1 if max_pixels is None else reduction(self.size, max_pixels)
        image, mask = reduce_picture(self.image, by), reduce_mask(self.mask, self.classes, by)
        overlay = as_shown(draw_overlay(image, mask, self.classes, alpha=alpha), self.orientation)
        if legend:
            overlay = add_legend(overlay, self.classes, tinted(self.counts, self.classes))
        return Image.fromarray(overlay)

    def show(self) -> None:
        """Open :meth:`plot` in the system's image viewer; in a notebook, a result as the last line shows itself."""
        self.plot().show()

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the mask as an indexed PNG of class ids; it has the EXIF orientation of the frame.

        :meth:`plot` returns a picture that can be saved; `unip predict` writes both for whole folders.

        Args:
            path: Where to; ends in ``.png``.
            overwrite: Replace a file that is there.

        Returns:
            The path.

        Raises:
            UnipError: It is no PNG, exists, or cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise UnipError(f"a mask is saved as PNG, not as {path.name}", "Other formats change ids: name it .png.")
        if is_file(path):
            if not overwrite:
                raise UnipError(f"{path} exists", "Replace it with overwrite=True, or choose another name.")
            path.unlink()
        with writing(path) as temporary:
            self.mask_image().save(temporary, **save_options(self.orientation))
        return path

    def summary(self) -> list[ClassSummary]:
        """Return the classes in the mask, those with most pixels first."""
        try:
            kelvin = self.kelvin
        except UnipError:  # what reads its temperatures is missing: all else is still known
            kelvin = None
        return [self._summarise(self.classes.names.index(name), kelvin) for name in self.labels]

    def polygons(self, *, min_area: float = 0.0) -> list[Polygon]:
        """Return the outlines of all regions but those of a background class.

        Args:
            min_area: Leave out regions of a smaller area, in pixels.
        """
        from unip.deployment.polygons import outline_regions  # here: few ask for them

        return outline_regions(self.mask, self.classes, min_area=min_area)

    def _summarise(self, class_id: int, kelvin: Floats | None) -> ClassSummary:
        inside = self.mask == class_id
        pixels = int(self.counts[class_id])
        sure = None if self.found_confidence is None else float(self.found_confidence[inside].mean(dtype=np.float64))
        there = np.zeros(0, np.float32) if kelvin is None else kelvin[inside & np.isfinite(kelvin)]
        heat: Sequence[float | None] = (
            [float(there.min()), float(there.mean(dtype=np.float64)), float(there.max())] if there.size else [None] * 3
        )
        return ClassSummary(self.classes.names[class_id], class_id, pixels, pixels / self.mask.size, sure, *heat)

    if not TYPE_CHECKING:  # type checkers would take every name for one that is there

        def __getattr__(self, name: str) -> Any:
            raise missing("a result", name, RESULT)

    def __repr__(self) -> str:
        height, width = self.size
        shares = [
            f"{name} {percent_of_pixels(self.counts[self.names.index(name)] / self.mask.size)} %"
            for name in self.labels
        ]
        unsure = [f"not sure enough {percent_of_pixels(self.unknown_share)} %"] if self.risk is not None else []
        return f"Result({self.name}, {width}x{height}: {', '.join([*shares, *unsure])})"

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows."""
        file = io.BytesIO()
        self.plot().save(file, "PNG")
        return file.getvalue()

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the overlay and a table of the classes."""
        summary = self.summary()
        is_measured = any(one.kelvin_mean is not None for one in summary)
        rows = "".join(_html_row(one, is_measured) for one in summary)
        heat = "<th>Kelvin, lowest</th><th>mean</th><th>highest</th>" if is_measured else ""
        calibrated = "" if self.is_calibrated else " (not calibrated)"
        unsure = (
            f"<p>Not sure enough for a risk of {self.risk:g}: {percent_of_pixels(self.unknown_share)} %</p>"
            if self.risk
            else ""
        )
        notes = "".join(f"<p>Note: {escape(note)}</p>" for note in self.notes)
        return (
            f"<p>{escape(self.name)}</p>"
            f'<img alt="overlay" src="data:image/png;base64,{base64.b64encode(self._repr_png_()).decode()}">'
            f"<table><tr><th>class</th><th>pixels</th><th>share</th><th>confidence{calibrated}</th>{heat}</tr>{rows}"
            f"</table>{unsure}{notes}"
        )


def _html_row(one: ClassSummary, with_heat: bool) -> str:
    def cell(value: float | None, shown: str) -> str:
        return f"<td>{'-' if value is None else format(value, shown)}</td>"

    kelvin = (one.kelvin_min, one.kelvin_mean, one.kelvin_max) if with_heat else ()
    heat = "".join(cell(value, ".1f") for value in kelvin)
    return (
        f"<tr><td>{escape(one.name)}</td><td>{one.pixels}</td><td>{percent_of_pixels(one.share)} %</td>"
        f"{cell(one.confidence, '.3f')}{heat}</tr>"
    )
