"""Label Studio: the JSON export of image tasks with polygons and brush masks.

```
ROOT/train.json             SPLIT.json; or one .json file with any name, or give the file itself: no splits
ROOT/images/0001.jpg        the images, anywhere in ROOT, by the name that the task has
```

Polygons and brush masks of one annotation for each task are drawn, in the order of the file. Boxes and the like have no
outline: they are counted and named. Tasks without an outline are left out. Classes are ``background`` and all labels in
the files of ROOT, sorted; a label of that name is the background, one called ``ignore`` marks pixels without a label.

Format: labelstud.io, "Label Studio JSON format"; coordinates are per cent of the picture. Brush masks are RGBA pixels
in the run lengths of @thi.ng/rle-pack, of which the fourth channel counts (label-studio-converter, brush.py).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unip.data.images.decoding import Pixels8
from unip.data.images.files import list_images
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers.coco import encode_runs
from unip.data.labelled.readers.drawn import Drawing, DrawnImage, class_ids, open_drawing
from unip.data.labelled.readers.places import WITHOUT_SPLITS, split_named
from unip.documents import fit
from unip.errors import UnipError
from unip.files import read_json
from unip.limits import check_pixels
from unip.paths import is_dir, is_file

KINDS = ("polygonlabels", "brushlabels")
EXPORT = "Export as JSON, not as JSON-MIN or in another format."
UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the names of uploaded files


Side = Annotated[int, Field(ge=1, le=1_000_000)]
Corner = Annotated[float, Field(ge=-1e6, le=1e6)]


@dataclass(frozen=True)
class Outline:
    """The value of a result: corners in per cent of the picture, or bytes of a brush mask; and its labels."""

    labels: list[str]
    points: list[tuple[Corner, Corner]] = field(default_factory=list)
    rle: list[Annotated[int, Field(ge=0, le=255)]] = field(default_factory=list)


@dataclass(frozen=True)
class TaskResult:
    """A shape, or something else that was said about the image."""

    type: str | None = None
    value: Any = None
    original_height: Side | None = None
    original_width: Side | None = None
    image_rotation: float | None = None


@dataclass(frozen=True)
class TaskAnnotation:
    """What one person said."""

    result: list[TaskResult] | None = None
    was_cancelled: bool | None = False
    ground_truth: bool | None = False


@dataclass(frozen=True)
class Task:
    """An image."""

    annotations: list[TaskAnnotation]
    id: Any = None
    data: dict[str, Any] | None = None


def open_label_studio(root: Path, split: str | None) -> SegmentationData:
    """List the annotated images of an export; see :func:`unip.data.labelled.datasets.open_segmentation`."""
    path = _file_of(root, split)
    folder = path.parent
    tasks = _tasks(path)
    labels = {label for file in _files(folder) or [path] for task in _tasks(file) for label in _labels(task, file)}
    names, ids = class_ids(sorted(labels | {label for task in tasks for label in _labels(task, path)}), path)
    files: dict[str, list[Path]] = {}
    for image in list_images(folder):
        files.setdefault(image.name, []).append(image)
    passed_over: Counter[str] = Counter()
    drawn = []
    for task in tasks:
        results = _results(task, path)
        passed_over.update(each.type for each in results if each.type and each.type not in (*KINDS, "choices"))
        shapes = [result for result in results if result.type in KINDS]
        image = _image_of(task, files, path)
        try:
            size, objects = _objects(shapes, ids)
        except UnipError as error:
            raise UnipError(f"{path}: {error.what}", error.fix) from None
        except (KeyError, ValueError) as error:
            what = f"{path}: a shape of task {task.id} is broken ({error})"
            raise UnipError(what, "Export it again as JSON.") from None
        drawn.append(DrawnImage(image, size, objects))
    return open_drawing(Drawing(path, tuple(names), tuple(drawn), dict(passed_over), "Label Studio"))


def label_studio_splits(root: Path) -> list[str]:
    """Return the names of the JSON files if there are several."""
    files = _files(root)
    return [path.stem for path in files] if len(files) > 1 else []


def decode_brush(runs: list[int], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Decode a brush mask.

    Bits, the highest of each byte first: 32 for the number of values, 5 for their width less 1, four times 4 for the
    widths of lengths less 1. Then for each run: a bit that says whether it repeats one value, 2 for which width its
    length has, the length less 1, and one value or as many as the length.

    Args:
        runs: Bytes, as the export has them.
        size: Height and width that it must have.

    Returns:
        ``(H, W)`` bool: where the fourth channel is above 0.

    Raises:
        ValueError: They are no such mask, or of another size.
    """
    bits = "".join(f"{byte:08b}" for byte in bytes(runs))
    place = 0

    def read(width: int) -> int:
        nonlocal place
        place += width
        if place > len(bits):
            raise ValueError("a brush mask that ends too early")
        return int(bits[place - width : place], 2)

    count = read(32)
    if count != size[0] * size[1] * 4:
        raise ValueError(f"a brush mask of {count} values for {size[0]}x{size[1]} pixels of 4")
    width = read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    values: Pixels8 = np.zeros(count, np.uint8)
    i = 0
    while i < count:
        repeats = read(1)
        end = i + 1 + read(widths[read(2)])
        if end > count:
            raise ValueError("a brush mask with too many values")
        if repeats:
            values[i:end] = min(read(width), 255)
        else:
            values[i:end] = [min(read(width), 255) for _ in range(end - i)]
        i = end
    return values.reshape(*size, 4)[..., 3] > 0


def _objects(shapes: list[TaskResult], ids: dict[str, int]) -> tuple[tuple[int, int], tuple[tuple[int, Any], ...]]:
    """Return height and width of a picture, and its objects as COCO has them."""
    if not shapes:
        return (0, 0), ()
    sizes = {(shape.original_height, shape.original_width) for shape in shapes}
    if len(sizes) > 1:
        raise ValueError(f"pictures of {len(sizes)} sizes")
    ((height, width),) = sizes
    if height is None or width is None:
        raise ValueError("no original_height and original_width")
    check_pixels(height, width, "a picture")
    objects = []
    for shape in shapes:
        value = _outline(shape)
        if shape.image_rotation:
            raise ValueError(f"drawn on a picture that was turned by {shape.image_rotation} degrees")
        segmentation: Any
        if shape.type == "polygonlabels":
            corners = np.array(value.points, np.float64).reshape(-1, 2) * (width / 100, height / 100)
            segmentation = [corners.ravel().tolist()]
        else:
            segmentation = encode_runs(decode_brush(value.rle, (height, width)))
        if len(value.labels) != 1:
            raise ValueError(f"{len(value.labels)} labels")
        (label,) = value.labels
        objects.append((ids[label], segmentation))
    return (height, width), tuple(objects)


def _outline(shape: TaskResult) -> Outline:
    held = shape.value if isinstance(shape.value, dict) else {}
    return fit({**held, "labels": held.get(shape.type or "") or []}, Outline, "its value", EXPORT)


def _tasks(path: Path) -> list[Task]:
    record = read_json(path)
    if not isinstance(record, list) or not all(isinstance(task, dict) and "annotations" in task for task in record):
        raise UnipError(f"{path} is no JSON export of Label Studio", EXPORT)
    return fit(record, list[Task], str(path), EXPORT)


def _results(task: Task, path: Path) -> list[TaskResult]:
    """Return what the one annotation of a task holds."""
    made = [each for each in task.annotations if not each.was_cancelled]
    chosen = [each for each in made if each.ground_truth] or made
    if len(chosen) > 1:
        raise UnipError(
            f"{path}: task {task.id} has {len(chosen)} annotations",
            "Mark one as ground truth in Label Studio, or delete the others, and export again.",
        )
    return (chosen[0].result or []) if chosen else []


def _labels(task: Task, path: Path) -> list[str]:
    shapes = [result for result in _results(task, path) if result.type in KINDS]
    try:
        return [label for shape in shapes for label in _outline(shape).labels]
    except UnipError as error:
        raise UnipError(f"{path}: a shape of task {task.id} is broken ({error.what})", error.fix) from None


def _image_of(task: Task, files: dict[str, list[Path]], path: Path) -> Path:
    """Return the file that a task shows: by the name at the end of its address, also without the prefix of uploads."""
    data = task.data or {}
    address = str(data.get("image") or data.get("img") or next(iter(data.values()), ""))
    try:
        parts = urlsplit(address.replace("\\", "/"))
    except ValueError as error:
        raise UnipError(f"{path}: task {task.id} shows {address[:200]!r}: {error}", EXPORT) from None
    local = parse_qs(parts.query).get("d")  # /data/local-files/?d=FOLDER/NAME
    name = unquote(local[0] if local else parts.path).replace("\\", "/").rpartition("/")[2]
    options = [files.get(option, []) for option in (name, UPLOAD.sub("", name))]
    found = next((paths for paths in options if paths), [])
    if len(found) != 1:
        what = f"{len(found)} images are called so" if found else "there is no such image"
        raise UnipError(
            f"{path}: task {task.id} shows {name}, but {what} in {path.parent}",
            "Put the images beside the export, each with its own name.",
        )
    return found[0]


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*.json") if path.name != "classes.json") if is_dir(root) else []


def _file_of(root: Path, split: str | None) -> Path:
    files = _files(root)
    if is_file(root) and split is None:
        return root
    if is_file(root) or (split and len(files) == 1 and files[0].stem != split):
        raise UnipError(f"{root} has no splits, so none is called {split!r}", WITHOUT_SPLITS)
    named = [path for path in files if split is None or path.stem == split]
    if len(named) != 1:
        there = ", ".join(path.stem for path in files)
        raise UnipError(
            f"no JSON export of Label Studio for {split_named(split)} in {root}",
            f"Expected {root / (split or 'export')}.json" + (f". There are: {there}." if there else "."),
        )
    return named[0]
