"""Segmentation folders: ``images/``, ``masks/`` and ``classes.json``, opened, checked and cut to few labels.

```
ROOT/
  classes.json            {"names": ["background", "person"], "ignore_index": 255}, see unip.data.classes;
                          "reading": {"conversion": "plateau"} says how to read the images, see unip.data.reading
  train/images/0001.png   any image; `train` may be any name, or be left out
  train/masks/0001.png    PNG, one channel: the id of the class at each pixel
```
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.data.classes import IGNORE
from unip.data.classes import Classes as Classes
from unip.data.images import Pixels, Pixels8, list_images, read_image
from unip.data.order import seed_for
from unip.data.parallel import threaded
from unip.data.reading import Reading
from unip.errors import UnipError
from unip.files import read_json

SHOWN = 5  # bad files that a message names


@dataclass(frozen=True)
class SegmentationData:
    """Pairs of images and masks in the order of the file names, what the ids mean, and how to read the images."""

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    classes: Classes
    reading: Reading | None = None

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.images)

    def take(self, indices: Iterable[int]) -> SegmentationData:
        """Return the pairs with these indices, in their order."""
        chosen = list(indices)
        return replace(self, images=tuple(self.images[i] for i in chosen), masks=tuple(self.masks[i] for i in chosen))


def open_segmentation(root: Path | str, split: str | None = None) -> SegmentationData:
    """List the pairs of a segmentation folder and read its classes; pixels are read later.

    Args:
        root: The folder.
        split: Its subfolder, such as ``"train"``; None when ``images/`` is in ``root`` itself.

    Returns:
        The pairs, sorted by the image's path inside ``images/``.

    Raises:
        UnipError: A folder, a mask or ``classes.json`` is missing or bad, or there is no image.
    """
    root = Path(root)
    base = root / split if split else root
    if not (base / "images").is_dir() or not (base / "masks").is_dir():
        splits = _splits(root)
        wanted = f"{base / 'images'} and {base / 'masks'}"
        if not root.is_dir():
            raise UnipError(f"no such folder: {root}", f"A segmentation folder holds {wanted}, and classes.json.")
        there = f" Splits in {root}: {', '.join(splits)}." if splits else ""
        raise UnipError(f"{base} is not a segmentation folder", f"Expected {wanted}, and classes.json.{there}")
    classes, reading = _read_classes([base, root] if split else [base, base.parent])
    images = list_images(base / "images")
    masks = [(base / "masks" / path.relative_to(base / "images")).with_suffix(".png") for path in images]
    stems = Counter(masks)
    twice = next((path for path, mask in zip(images, masks, strict=True) if stems[mask] > 1), None)
    if twice is not None:
        raise UnipError(f"two images of {twice.parent} are named {twice.stem!r} and would share a mask", "Rename one.")
    missing = [(image, mask) for image, mask in zip(images, masks, strict=True) if not mask.is_file()]
    if missing:
        raise UnipError(
            f"{len(missing)} of {len(images)} images have no mask, the first: {missing[0][0]}",
            f"Expected {missing[0][1]}; add it or move the image away.",
        )
    return SegmentationData(tuple(images), tuple(masks), classes, reading)


def read_mask(path: Path | str, classes: Classes) -> Pixels8:
    """Read a mask.

    Args:
        path: A PNG with one channel (8-bit, 16-bit or palette), whose values are class ids.
        classes: The ids that may occur.

    Returns:
        ``(H, W)`` uint8: class ids, and 255 wherever the file says ``classes.ignore_index``.

    Raises:
        UnipError: The file is missing, damaged, coloured, or holds an unknown id.
    """
    ids = _read_ids(Path(path))
    count, ignore = len(classes.names), classes.ignore_index
    ignored = ids == ignore
    known = (ids < count) | ignored
    if not known.all():
        unknown = np.unique(ids[~known])
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise UnipError(
            f"mask {path} holds the unknown id {unknown[0]}{more} ({int((~known).sum())} pixels)",
            f"Known ids: 0..{count - 1} ({', '.join(classes.names[:8])}{', ...' if count > 8 else ''}) and "
            f"{ignore} for ignore. Correct the mask or add the class to classes.json.",
        )
    return np.where(ignored, np.uint8(IGNORE), ids).astype(np.uint8)


def check_pair(image: npt.NDArray[Any], mask: Pixels8, image_path: Path, mask_path: Path) -> None:
    """Raise a UnipError unless the image ``(H, W, ...)`` and the mask ``(H, W)`` have the same size."""
    if image.shape[:2] != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        turned = (height, width) == (mask_width, mask_height)
        raise UnipError(
            f"mask {mask_path} is {mask_width}x{mask_height} but its image {image_path} is {width}x{height}",
            "Images are read as stored, without their EXIF rotation: save this one turned."
            if turned
            else "Save the mask at the size of its image.",
        )


def check_segmentation(data: SegmentationData, *, workers: int = 0) -> dict[str, int]:
    """Decode every pair and count the pixels of each class.

    Args:
        data: The pairs.
        workers: Threads; 0 means one for each core.

    Returns:
        Pixels by class name, in the order of the ids, and the rest as ``"ignore"``.

    Raises:
        UnipError: Some pair is damaged, has two sizes or an unknown id; the message names the first ones.
    """

    def check(i: int) -> npt.NDArray[np.int64] | UnipError:
        try:
            mask = read_mask(data.masks[i], data.classes)
            check_pair(read_image(data.images[i]), mask, data.images[i], data.masks[i])
        except UnipError as error:
            return error
        return np.bincount(mask.ravel(), minlength=256)

    counts = np.zeros(256, dtype=np.int64)
    bad: list[UnipError] = []
    for result in threaded(check, range(len(data)), "checking pairs", workers=workers, unit="pairs"):
        if isinstance(result, UnipError):
            bad.append(result)
        else:
            counts += result
    if len(bad) == 1:
        raise bad[0]
    if bad:
        lines = "\n".join(f"  {error.what}" for error in bad[:SHOWN])
        raise UnipError(f"{len(bad)} of {len(data)} pairs are bad:\n{lines}", f"For the first: {bad[0].fix}")
    pixels = {name: int(counts[i]) for i, name in enumerate(data.classes.names)}
    return {**pixels, "ignore": int(counts[IGNORE])}


def subset(data: SegmentationData, labels: float | int, seed: int) -> SegmentationData:
    """Keep few labels: a seeded choice in which every class occurs as long as there is room for it.

    Classes are served from the rarest on, each with a random image that shows it, unless one chosen before does;
    the rest is random. With the same seed, a smaller choice is contained in a larger one.

    Args:
        data: The pairs.
        labels: A share in (0, 1] when a float, a number of images when an int.
        seed: Seed of the choice.

    Returns:
        The chosen pairs, in the order of ``data``.

    Raises:
        UnipError: ``labels`` is not possible, or a mask is bad.
    """
    if isinstance(labels, float):
        if not 0.0 < labels <= 1.0:
            raise UnipError(f"a share of labels must lie in (0, 1], but is {labels}")
        count = max(1, round(labels * len(data)))
    else:
        count = labels
    if not 1 <= count <= len(data):
        raise UnipError(
            f"{count} labelled images are asked for, but there are {len(data)}",
            f"Ask for 1 to {len(data)}, or for a share such as 0.1.",
        )
    if count == len(data):
        return data

    def shown(path: Path) -> npt.NDArray[np.bool_]:
        return np.bincount(read_mask(path, data.classes).ravel(), minlength=256)[: len(data.classes.names)] > 0

    present = np.stack(list(threaded(shown, data.masks, "reading masks", unit="masks")))
    shuffled = np.random.default_rng(seed_for(seed, len(data))).permutation(len(data))
    chosen: list[int] = []
    images_with = present.sum(axis=0)
    for label in np.argsort(images_with, kind="stable"):
        if images_with[label] and not present[chosen, label].any():
            chosen.append(int(next(i for i in shuffled if present[i, label])))
    chosen += [int(i) for i in shuffled if i not in set(chosen)]
    return data.take(sorted(chosen[:count]))


def _splits(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob("*/images")) if root.is_dir() else []


def _read_classes(folders: list[Path]) -> tuple[Classes, Reading | None]:
    for folder in folders:
        path = folder / "classes.json"
        if path.is_file():
            try:
                value = read_json(path)
                said = value.pop("reading", None) if isinstance(value, dict) else None
                reading = None if said is None else Reading.from_json(json.dumps(said))
                return Classes.from_dict(value), reading
            except UnipError as error:
                raise UnipError(f"{path}: {error.what}", error.fix) from None
    raise UnipError(
        f"no classes.json in {' or '.join(str(folder) for folder in folders)}",
        'Write one: {"names": ["background", "person"], "ignore_index": 255}.',
    )


def _read_ids(path: Path) -> Pixels:
    """Read the raw ids of a mask file; ``(H, W)`` uint8 or uint16."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnipError(f"cannot read mask {path}: {error.strerror or error}") from error
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            file_format, mode = image.format, image.mode
            ids: Pixels = np.asarray(image)
    except Exception as error:  # on broken bytes the decoders raise nearly anything
        raise UnipError(f"mask {path} is truncated, damaged or no image ({error})", "Write it again as PNG.") from error
    if file_format != "PNG":
        raise UnipError(f"mask {path} is {file_format}, not PNG", "Lossy formats change ids: write it again as PNG.")
    if mode not in ("L", "P", "1") and not mode.startswith("I;16"):
        raise UnipError(
            f"mask {path} has the colour mode {mode}, not one channel of class ids",
            "Save it as 8-bit grey or palette PNG whose values are the ids.",
        )
    depth = data[24]  # bits of a sample in the header
    if mode == "L" and depth < 8:  # Pillow spreads 2- and 4-bit grey over 0..255
        ids = ids // np.uint8(255 // (2**depth - 1))
    return ids.astype(np.uint8) if mode == "1" else ids
