"""What a model can be given: files, folders, arrays, tensors, Pillow images, and lists or generators of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.data.images.blocks import LargeImage, large_counts, read_large
from unip.data.images.config import Conversion
from unip.data.images.conversion import Values
from unip.data.images.decoding import to_image8, treat_samples
from unip.data.images.files import list_images
from unip.data.images.nodata import suspected_nodata, suspected_nodata_of_counts
from unip.data.labelled.pairs import read_one
from unip.errors import UnipError
from unip.paths import is_dir

if TYPE_CHECKING:
    from torch import Tensor

Unit = Literal["kelvin", "celsius", "counts"]
Array = npt.NDArray[Any]
#: One frame as it may be given.
ImageLike = "str | os.PathLike[str] | Image.Image | Array | Tensor"

ZERO_CELSIUS = 273.15  # Kelvin
COLDEST_KELVIN = 100.0  # a clear sky seen by a camera is warmer
LIKE_KELVIN = (230.0, 340.0)  # a median within, of Celsius, is rather that of Kelvin
OUTSIDE_SHARE = 0.99  # of a frame outside of the window, from where nothing is seen of it
COUNTS_MAX = 65535
LIKE_8_BITS = (
    "holds values below 256 in 16 bits: it looks like an 8-bit image, whose contrast is changed by the conversion of "
    "counts. Give it in 8 bits"
)
UNITS = 'unit="kelvin", unit="celsius" or, for counts of a camera, unit="counts"'


@dataclass(frozen=True, eq=False)
class Given:
    """One frame that was given to a model, read and converted.

    Attributes:
        index: Its place among those given, from 0.
        name: For messages: the path, or which of the frames it is.
        path: Its file, if it came from one.
        image: As a model sees it, uint8 at its own size: ``(H, W)`` if it is grey, else RGB ``(H, W, 3)``.
        is_8_bit: Whether its samples have 8 bits.
        nodata: What looks like the value of samples without a measurement, but is not declared to be.
        kelvin: Temperatures that were given, float32 ``(H, W)``; None: none were.
        doubts: What is strange about it: a kind, and what follows the name in a sentence about it.
        problem: Why it could not be read; the image is empty then.
        read_seconds: How long reading and converting took.
    """

    index: int
    name: str
    path: Path | None
    image: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    is_8_bit: bool = True
    nodata: float | None = None
    kelvin: npt.NDArray[np.float32] | None = None
    doubts: Mapping[str, str] = field(default_factory=dict)
    problem: UnipError | None = None
    read_seconds: float = 0.0


@dataclass(frozen=True)
class Reader:
    """Reads frames as a model was trained on them.

    Attributes:
        conversion: How counts or temperatures become 8 bits.
        channel: Of files and arrays of several channels, the one that is read, from 0; None: all.
        unit: What the numbers of float arrays are.
        needs_samples: Whether samples are wanted beside the 8-bit image, which takes memory for a large frame.
    """

    conversion: Conversion
    channel: int | None = None
    unit: Unit | None = None
    needs_samples: bool = False

    def read(self, index: int, item: object) -> tuple[Given, Values]:
        """Read a frame; what is wrong with it is a value, so that others can be processed.

        Args:
            index: Its place among those given.
            item: The frame.

        Returns:
            The frame, and its samples as they are converted: uint8, uint16 or float32 (NaN without a measurement),
            ``(H, W)`` or ``(H, W, 3)``. Of a large frame, its 8-bit image unless samples are needed.
        """
        start = time.perf_counter()
        path = Path(item) if isinstance(item, str | os.PathLike) else None
        name = str(path) if path is not None else f"frame {index}"
        try:
            kelvin = None
            large = self._large(item, path, name)
            if large is not None:
                seconds = time.perf_counter() - start
                return self._given_large(Given(index, name, path, large.image, read_seconds=seconds), large)
            if path is not None:
                samples = read_one(path, self.conversion, self.channel)
            else:
                samples = self._array(item, name)
                if self.unit in ("kelvin", "celsius"):
                    kelvin = samples
            image = to_image8(samples, self.conversion)
        except UnipError as error:  # by its texts alone: from another process it would come with a traceback
            return Given(index, name, path, problem=UnipError(error.what, error.fix)), np.zeros((0, 0), np.uint8)
        given = Given(
            index,
            name,
            path,
            image,
            is_8_bit=samples.dtype == np.uint8,
            nodata=suspected_nodata(samples, self.conversion),
            kelvin=kelvin,
            doubts=dict(self._doubts(samples, image)),
            read_seconds=time.perf_counter() - start,
        )
        return given, samples

    def _large(self, item: object, path: Path | None, name: str) -> LargeImage | None:
        """Read a large frame in parts; None: it is none, or has to be read whole.

        Raises:
            UnipError: It is damaged, or no sample of it holds a measurement.
        """
        if self.needs_samples or self.channel is not None or self.unit is not None:
            return None
        if path is not None:
            return read_large(path, self.conversion)
        try:
            return large_counts(item, self.conversion) if isinstance(item, np.ndarray) else None
        except UnipError as error:
            raise UnipError(f"{name} {error.what}", error.fix) from None

    def _given_large(self, given: Given, large: LargeImage) -> tuple[Given, Values]:
        """Complete what is known of a large frame."""
        sampled = large.sampled
        if sampled is None:
            return given, large.image
        doubts = {}
        if large.is_complete and sampled.largest < 256:
            doubts["levels"] = LIKE_8_BITS
        window = self.conversion.window
        if window is not None and (outside := sampled.share_outside(window)) > OUTSIDE_SHARE:
            doubts["window"] = _outside_of(window, outside)
        nodata = suspected_nodata_of_counts(sampled, self.conversion)
        return replace(given, is_8_bit=False, nodata=nodata, doubts=doubts), large.image

    def _array(self, item: object, name: str) -> Values:
        """Return the samples of an image, array or tensor.

        Raises:
            UnipError: It is none, or has a shape, a type or values that no frame has.
        """
        pixels = one_shape(as_array(item, name), self.channel, name)
        if pixels.dtype.kind == "f":
            # first, as the value of missing samples is in the unit that was given
            return temperatures(treat_samples(pixels, name, self.conversion), self.unit, name)
        if self.unit is not None:
            raise UnipError(
                f"{name}: unit={self.unit!r} is of floats, but it holds {pixels.dtype}",
                "Turn the numbers into that unit and float32 first, or leave unit out: whole numbers are counts.",
            )
        return treat_samples(counts(pixels, name), name, self.conversion)

    def _doubts(self, samples: Values, image: npt.NDArray[np.uint8]) -> Iterator[tuple[str, str]]:
        if samples.dtype == np.uint8:
            return
        if samples.dtype == np.uint16 and int(samples.max()) < 256:
            yield "levels", LIKE_8_BITS
        window = self.conversion.window
        if window is not None:
            with np.errstate(invalid="ignore"):
                outside = float(((samples < window[0]) | (samples > window[1])).mean())
            if outside > OUTSIDE_SHARE:
                yield "window", _outside_of(window, outside)
        if self.unit == "celsius":
            middle = float(np.nanmedian(samples)) - ZERO_CELSIUS
            if LIKE_KELVIN[0] < middle < LIKE_KELVIN[1]:
                yield "unit", f'has a median of {middle:.0f} degrees Celsius, which looks like Kelvin: unit="kelvin"'


def _outside_of(window: tuple[float, float], share: float) -> str:
    return (
        f"lies outside of the window {window[0]:g}..{window[1]:g} that the model was trained with, but for "
        f"{100 * (1 - share):.1f} % of its pixels: its numbers may be of another unit or camera"
    )


def as_array(item: object, name: str) -> Array:
    """Return an array of an image, array, tensor, or whatever has ``__array__``; channels come last.

    Raises:
        UnipError: It is none of these.
    """
    torch = sys.modules.get("torch")  # of a tensor, it has been imported
    if torch is not None and isinstance(item, torch.Tensor):
        return _of_tensor(item, name)
    if isinstance(item, Image.Image):
        return _of_pillow(item)
    if isinstance(item, np.ma.MaskedArray):
        return _of_masked(item, name)
    if isinstance(item, np.ndarray):
        return item
    if hasattr(item, "__array__"):
        return np.asarray(item)
    raise UnipError(
        f"{name} is a {type(item).__name__}, which is no image",
        "Give a path, a Pillow image, a numpy array or a torch tensor, or many of them.",
    )


def one_shape(pixels: Array, channel: int | None, name: str) -> Array:
    """Return pixels as ``(H, W)`` or ``(H, W, 3)``; of one channel if it is given.

    Raises:
        UnipError: They have another shape, or no such channel.
    """
    shape = "x".join(map(str, pixels.shape)) or "a number"
    if pixels.size == 0:
        raise UnipError(f"{name} has no pixels (shape {shape})", "Give an image.")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        return pixels[..., 0]
    if pixels.ndim == 2:
        return pixels
    if pixels.ndim == 3 and channel is not None:
        if channel < pixels.shape[2] <= 4:
            return np.ascontiguousarray(pixels[..., channel])
        raise UnipError(
            f"{name} has {pixels.shape[2]} channels, but the model was trained on channel {channel + 1}",
            "Give that channel alone, (H, W), or all channels, (H, W, C).",
        )
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    fixes = {
        4: "Give many frames as a list.",
        3: "Channels come last in arrays: (H, W) or (H, W, 3). Leave alpha out: array[..., :3].",
    }
    raise UnipError(f"{name} has the shape {shape}, which is no image", fixes.get(pixels.ndim, "Give (H, W)."))


def temperatures(pixels: Array, unit: Unit | None, name: str) -> npt.NDArray[np.float32]:
    """Return floats as float32, those of temperatures in Kelvin.

    Raises:
        UnipError: The unit is not given, or the numbers cannot be of it.
    """
    if unit is None:
        raise UnipError(
            f"{name} holds {pixels.dtype}, and floats may be anything",
            f"Say what they are: {UNITS}. Give pictures of 0..1 as uint8: (array * 255).round().astype('uint8').",
        )
    if pixels.ndim == 3 and unit != "counts":
        raise UnipError(f"{name} has three channels of temperatures", "Give one of them: array[..., 0].")
    values = pixels.astype(np.float32)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise UnipError(f"{name} has no finite number", "Give a frame with measurements.")
    least = float(finite.min())
    if unit == "kelvin" and least < COLDEST_KELVIN:
        raise UnipError(
            f'{name} reaches down to {least:g}, which is too cold for unit="kelvin"',
            'Give unit="celsius" if it is that, and NaN where nothing was measured.',
        )
    if unit == "celsius":
        if least < -ZERO_CELSIUS:
            raise UnipError(
                f"{name} reaches down to {least:g} degrees Celsius, below the absolute zero",
                "Give NaN where nothing was measured.",
            )
        values += np.float32(ZERO_CELSIUS)
    return values


def counts(pixels: Array, name: str) -> Array:
    """Return whole numbers as uint8, or as uint16 where they are wider.

    Raises:
        UnipError: They are no counts of 16 bits.
    """
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels.copy()  # a camera may fill the same memory again before the batch runs
    if pixels.dtype.kind not in "iu":
        raise UnipError(f"{name} holds {pixels.dtype}, which is no image", "Give uint8, uint16 or float32.")
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > COUNTS_MAX:
        raise UnipError(
            f"{name} holds {pixels.dtype} of {low}..{high}, which are no counts of 16 bits (0..{COUNTS_MAX})",
            'Give uint8 or uint16; or float32 with unit="counts", and NaN where nothing was measured.',
        )
    return pixels.astype(np.uint16)


def _of_tensor(tensor: Tensor, name: str) -> Array:
    """Return a tensor ``(H, W)``, ``(1, H, W)`` or ``(3, H, W)`` with its channels last."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        raise UnipError(
            f"{name} is a tensor of bfloat16, which tells apart no more than 256 levels of a frame",
            "Give uint8, uint16 or float32.",
        )
    if tensor.ndim == 3:
        if tensor.shape[0] not in (1, 3, 4):
            shape = "x".join(map(str, tensor.shape))
            raise UnipError(
                f"{name} is a tensor of shape {shape}, which is no image",
                "Channels come first in tensors: (H, W), (1, H, W) or (3, H, W). Give tensor.permute(2, 0, 1).",
            )
        tensor = tensor.permute(1, 2, 0)
    return np.asarray(tensor.numpy())


def _of_masked(array: Any, name: str) -> Array:
    """Return a masked array with NaN where it is masked.

    Raises:
        UnipError: Its numbers have no NaN.
    """
    if not np.ma.getmaskarray(array).any():
        return np.asarray(array.data)
    if array.dtype.kind != "f":
        raise UnipError(
            f"{name} is a masked array of {array.dtype}, which has no value for what is masked",
            'Give it as floats: model(array.astype("float32"), unit="counts").',
        )
    return np.asarray(array.filled(np.nan))


def _of_pillow(image: Image.Image) -> Array:
    """Return the pixels of a Pillow image as they are; alpha is dropped and palettes become RGB, as of files."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image)
    return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB"))


@dataclass(frozen=True)
class Inputs:
    """What a model was given.

    Attributes:
        items: The frames: a list where their number is known.
        are_many: Whether many were given, and many results are returned; a folder is many.
    """

    items: Iterable[object]
    are_many: bool

    @classmethod
    def of(cls, given: object) -> Inputs:
        """Tell one frame from many.

        Raises:
            UnipError: A folder or a file is missing, or has no images.
        """
        if isinstance(given, str | os.PathLike):
            path = Path(given)
            return cls(list_images(path), is_dir(path))
        if isinstance(given, Sequence) and not isinstance(given, bytes | bytearray):
            return cls([item for each in given for item in _expanded(each)], True)
        if _is_batch(given):
            return cls(list(given), True)  # type: ignore[call-overload]
        if isinstance(given, Image.Image) or hasattr(given, "__array__"):
            return cls([given], False)
        if isinstance(given, Iterable) and not isinstance(given, bytes | bytearray | Mapping):
            return cls((item for each in given for item in _expanded(each)), True)
        return cls([given], False)  # what is wrong with it is said where it is read


def _expanded(item: object) -> Sequence[object]:
    """Return the images of a folder, or the item alone; a missing file is refused before any work."""
    return list_images(Path(item)) if isinstance(item, str | os.PathLike) else (item,)


def _is_batch(given: object) -> bool:
    """Say whether it is a batch of frames as torch has them, ``(B, C, H, W)``."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(given, torch.Tensor) and given.ndim == 4
