"""Images for pre-training: infrared and RGB mixed, all as grey, in a seeded order with seeded crops."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from unip.data.images.addresses import read_bytes
from unip.data.images.config import Conversion
from unip.data.images.conversion import grey8
from unip.data.images.decoding import Pixels8, decode_samples, read_grey8, read_image, to_rgb8
from unip.data.images.jpeg import jpeg_grey8, reduction
from unip.data.manifests.manifest import paths_of
from unip.data.manifests.sources import printable
from unip.data.sampling.order import SampleOrder
from unip.errors import UnipError
from unip.runtime.memory import Cache, use_ram
from unip.runtime.seeds import seed_for
from unip.runtime.workers import map_processes, map_threads

ASPECT = (3 / 4, 4 / 3)  # width over height of a crop


class PretrainDataset(Dataset[tuple[Tensor, bool]]):
    """Grey crops for pre-training, cut as in the paper: RandomResizedCrop (bicubic) and a horizontal flip.

    ``dataset[position]`` is a ``(1, size, size)`` uint8 tensor and whether it is to be flipped, a pure function of
    ``(seed, position)``, where ``position`` counts samples from the start of training, over all epochs; ``len`` is one
    epoch. Flipping and normalising are left to the device: there they cost next to nothing, and bytes are four times
    smaller than floats on their way.

    An epoch shows as many samples as there are images, each once; where weights differ, each as often as its share of
    all weights says, rounded up or down by turns. Images are read wherever the manifest says that they are: in files,
    in the shards of a packed set, or in the manifest itself; wider samples become 8-bit by the conversion of their row.

    Large JPEG files are decoded at 1/2, 1/4 or 1/8 of their size if even the smallest crop then has ``size`` pixels.
    This depends on the listed size alone, not on the crop or the cache.

    In memory, images are one block of bytes. Workers that are forked share it; where workers are spawned
    (Windows, macOS) each gets a copy, so give few workers or ``cache="none"`` there.

    Args:
        table: A manifest as :func:`unip.data.manifests.manifest.open_images` returns it.
        size: Side of a crop, pixels.
        seed: Seed of order and augmentation.
        cache: Keep decoded images: ``"ram"``, ``"none"``, or ``"auto"`` (when a quarter of the free memory holds them).
        scale: Range of a crop's share of the image's area.
        flip: Probability of a horizontal flip.

    Raises:
        UnipError: There is no image, weights make no sense, or an image that is kept in memory cannot be read or has
            another size than listed.
    """

    def __init__(
        self,
        table: Any,
        *,
        size: int = 224,
        seed: int = 0,
        cache: Cache = "auto",
        scale: tuple[float, float] = (0.2, 1.0),
        flip: float = 0.5,
    ) -> None:
        if table.num_rows == 0:
            raise UnipError("the manifest lists no image", "Build it from a folder that holds images.")
        self.size = size
        self.seed = seed
        self.scale = scale
        self.flip = flip
        try:
            self.order = SampleOrder(table.num_rows, seed, table["weight"].to_numpy())
        except ValueError as error:
            raise UnipError(f"the manifest's column weight: {error}", "Build it again.") from error
        # Columns stay with Arrow: forked workers share them, which they would not with a million Python objects.
        self._paths, self._images, self._conversions = (table[name] for name in ("path", "image", "conversion"))
        heights = table["height"].to_numpy().astype(np.int64)
        widths = table["width"].to_numpy().astype(np.int64)
        self._listed = np.stack([heights, widths], axis=1)
        self._shapes = self._listed.copy()  # of the images in memory
        self._ends = np.cumsum(heights * widths)
        self._block: npt.NDArray[np.uint8] | None = None
        if use_ram(cache, int(self._ends[-1])):
            # memory that processes share, without the limits of /dev/shm
            self._block = np.frombuffer(mmap.mmap(-1, int(self._ends[-1])), dtype=np.uint8)
            kept = map_processes(self._keep, range(len(self)), "reading images")
            for index, shape in enumerate(kept):
                self._shapes[index] = shape

    def __len__(self) -> int:
        """Return the number of images, which is one epoch."""
        return self.order.n

    def __getitem__(self, position: int) -> tuple[Tensor, bool]:
        """Return the crop shown at ``position``, and whether it is shown flipped."""
        image = self.image(self.order(position))
        (top, left, height, width), flip = self._drawn(position, image.shape)
        crop = torch.from_numpy(image[None, top : top + height, left : left + width])
        out: Tensor = F.resize(crop, [self.size, self.size], interpolation=InterpolationMode.BICUBIC, antialias=True)
        return out, flip

    def draw(self, position: int) -> tuple[int, tuple[int, int, int, int], bool]:
        """Return all that is random at ``position``, where images are in memory: image, box of the crop, flip."""
        index = self.order(position)
        return index, *self._drawn(position, tuple(self._shapes[index].tolist()))

    def _drawn(self, position: int, shape: tuple[int, ...]) -> tuple[tuple[int, int, int, int], bool]:
        rng = np.random.default_rng(seed_for(self.seed, position))
        return crop_box(shape[0], shape[1], self.scale, rng), bool(rng.random() < self.flip)

    @property
    def in_memory(self) -> bool:
        """Whether decoded images are kept."""
        return self._block is not None

    @property
    def shapes(self) -> npt.NDArray[np.int64]:
        """Height and width of each image as it is kept in memory, ``(N, 2)``."""
        return self._shapes

    def image(self, index: int) -> Pixels8:
        """Return the whole image ``index`` of the manifest as ``(H, W)`` uint8; a large JPEG may come reduced."""
        if self._block is None:
            return self._read(index)
        height, width = self._shapes[index]
        end = self._ends[index]
        return self._block[end - height * width : end].reshape(height, width)

    def _read(self, index: int) -> Pixels8:
        conversion = Conversion.from_json(self._conversions[index].as_py())
        path, name = self._paths[index].as_py(), self._name(index)
        try:
            data = self._images[index].as_py() if path is None else read_bytes(path)
        except OSError as error:
            raise UnipError(f"cannot read image {name}: {error.strerror or error}") from error
        image = jpeg_grey8(data, self._reduction(index)) if conversion.takes_luma else None
        return grey8(decode_samples(data, name, conversion) if image is None else image, conversion)

    def _reduction(self, index: int) -> int:
        """Return by how much an image may be reduced: the shortest side of a crop must keep ``size`` pixels."""
        height, width = self._listed[index].tolist()
        return reduction(height, width, self.size / math.sqrt(self.scale[0] * ASPECT[0]))

    def _name(self, index: int) -> str:
        path = self._paths[index].as_py()
        return f"{index} within the manifest" if path is None else printable(path)

    def _keep(self, index: int) -> tuple[int, ...]:
        """Read an image into the block; return its shape."""
        image = self._read(index)
        height, width = self._listed[index].tolist()
        reduce = self._reduction(index)
        known = ((height, width), (-(-height // reduce), -(-width // reduce)))
        # a radiometric file may hold fewer temperatures than its picture, whose size is listed, has pixels
        if image.shape not in known and not (image.size < height * width and self._conversions[index].is_valid):
            raise UnipError(
                f"image {self._name(index)} is {image.shape[1]}x{image.shape[0]}, "
                f"but its manifest says {width}x{height}",
                "The file has changed: build the manifest again.",
            )
        assert self._block is not None
        end = self._ends[index]
        self._block[end - image.size : end] = image.ravel()
        return image.shape


def crop_box(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw the box of a RandomResizedCrop: area share uniform, aspect ratio log-uniform in 3/4..4/3.

    Args:
        height: Of the image, pixels.
        width: Of the image, pixels.
        scale: Range of the share of the area.
        rng: Where the numbers come from.

    Returns:
        Top, left, height and width; after ten boxes that do not fit, the largest centred one of a fitting shape.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(rng.integers(0, height - box_height + 1))
            left = int(rng.integers(0, width - box_width + 1))
            return top, left, box_height, box_width
    box_height = min(height, max(1, round(width / ASPECT[0])))
    box_width = min(width, max(1, round(height * ASPECT[1])))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def sample_indices(table: Any, modality: str | None, count: int, seed: int) -> list[int]:
    """Choose ``count`` different rows of a manifest (all, when it has fewer), sorted.

    Args:
        table: The manifest.
        modality: ``"infrared"``, ``"rgb"``, or None for any.
        count: How many.
        seed: Seed of the choice.

    Raises:
        UnipError: No row has this modality.
    """
    modalities = table["modality"].to_pylist()
    rows = [i for i, value in enumerate(modalities) if modality is None or value == modality]
    if not rows:
        raise UnipError(
            f"no {modality or ''} image among {len(modalities)} of the manifest".replace("  ", " "),
            "Add a source, such as infrared=FOLDER.",
        )
    chosen = np.random.default_rng(seed_for(seed, len(rows))).permutation(len(rows))[:count]
    return sorted(rows[i] for i in chosen)


def read_squares(
    path: str | Path, sides: Sequence[int], *, colour: bool = False, conversion: str | None = None
) -> list[Tensor]:
    """Read a whole image once and resize it to squares (bicubic, antialiased), for measuring and showing attention.

    Args:
        path: An image file, or an address in a packed set.
        sides: Of the squares, pixels.
        colour: Keep RGB; else it becomes grey.
        conversion: How it becomes 8-bit grey (JSON, None for the default); it does not apply to colour.

    Returns:
        For each side ``(1, side, side)`` uint8, in colour ``(3, side, side)``.
    """
    if colour:
        channels = to_rgb8(read_image(path)).transpose(2, 0, 1)
    else:
        channels = read_grey8(path, Conversion.from_json(conversion))[None]
    image = torch.from_numpy(np.array(channels))
    return [F.resize(image, [side, side], interpolation=InterpolationMode.BICUBIC, antialias=True) for side in sides]


class Squares:
    """Whole images of a manifest as squares, each by its own conversion, for choosing layers and drawing pictures.

    What was read is kept: ``size`` x ``size`` bytes of each image.

    Args:
        table: The manifest.
        size: Side of the squares, pixels.
    """

    def __init__(self, table: Any, size: int) -> None:
        self.table, self.size = table, size
        self._kept: dict[int, Tensor] = {}

    def read(self, indices: Sequence[int]) -> Tensor:
        """Return the images of some rows, ``(N, 1, size, size)`` uint8; those read before are not opened again."""
        missing = [index for index in indices if index not in self._kept]
        if missing:
            some = self.table.take(missing)
            items = list(zip(paths_of(some), some["conversion"].to_pylist(), strict=True))
            squares = map_threads(self._square, items, "reading images", quiet=True)
            self._kept.update(zip(missing, squares, strict=True))
        return torch.stack([self._kept[index] for index in indices])

    def _square(self, item: tuple[str, str | None]) -> Tensor:
        path, conversion = item
        return read_squares(path, [self.size], conversion=conversion)[0]
