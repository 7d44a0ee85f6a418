"""Which layout the files of a folder suggest, for messages: a look into some of them, nothing is opened by it."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from unip.data.images.files import SUFFIXES, WAYS_ON
from unip.data.labelled.readers.coco import coco_splits
from unip.errors import UnipError
from unip.files import read_json, read_lines
from unip.opening import regular
from unip.paths import is_dir, is_file

FILES_SEEN = 20_000  # of a folder, at most
LOOKED_INTO = 5  # files of one kind, at most
FOLDERS_SHOWN = 4
HEAD_BYTES = 4096  # of an XML file
TAG = re.compile(rb"<([A-Za-z]\w*)")
NO_OUTLINE = "Semantic segmentation needs masks or outlines: label it again with polygons or masks."
NAMES = ("classes.json", "labels.txt", "labelmap.txt", "classes.txt", "train.txt", "val.txt", "test.txt")


def guess_kind(root: Path) -> str | None:
    """Return a sentence that names the kind of labelled data that the files of a folder, or a file, look like."""
    files = _files(root)
    found = _guess_annotations(root, files)
    if found is None or found.endswith(NO_OUTLINE):  # boxes may lie beside masks
        return _name_unread(root, files) or _name_images(root, files) or found
    return found


def guess_annotations(root: Path) -> str | None:
    """Return the same for files of annotations alone."""
    return _guess_annotations(root, _files(root))


def _guess_annotations(root: Path, files: Sequence[Path]) -> str | None:
    looks = {".json": _look_at_json, ".xml": _look_at_xml, ".txt": _look_at_text}
    for ending, look in looks.items():
        chosen = [path for path in files if path.suffix.lower() == ending and path.name not in NAMES]
        for path in chosen[:LOOKED_INTO]:
            if found := look(path, root):
                return found
    return None


def _no_outline(path: Path, what: str) -> str:
    return f"{path} holds {what}. {NO_OUTLINE}"


def _files(root: Path) -> list[Path]:
    if is_file(root):
        return [root]
    return sorted(path for path in itertools.islice(root.rglob("*"), FILES_SEEN) if is_file(path))


def _look_at_json(path: Path, root: Path) -> str | None:
    try:
        record = read_json(path)
    except UnipError:
        return None
    if isinstance(record, dict) and {"images", "annotations", "categories"} <= set(record):
        return f"{path} looks like COCO: give coco:{root if coco_splits(root) else path}."
    if isinstance(record, dict) and isinstance(record.get("shapes"), list):
        flat = ' and --split ""' if path.parent == root else ""
        return f"{path} looks like LabelMe: give labelme:{root if is_dir(root) else root.parent}{flat}."
    first = record[0] if isinstance(record, list) and record else None
    if isinstance(first, dict) and "data" in first and {"annotations", "completions"} & set(first):
        return f"{path} looks like Label Studio: give label-studio:{path}."
    return None


def _look_at_xml(path: Path, root: Path) -> str | None:
    try:
        with open(path, "rb", opener=regular) as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    top = TAG.search(head)
    if top and top[1] == b"annotations":
        return f"{path} looks like CVAT: give cvat:{path.parent if path.name == 'annotations.xml' else path}."
    return _no_outline(path, "the boxes of Pascal VOC") if top and top[1] == b"annotation" else None


def _look_at_text(path: Path, root: Path) -> str | None:
    try:
        words = next((line.split() for line in read_lines(path) if line.strip()), [])
        values = [float(word) for word in words]
    except (UnipError, ValueError):
        return None
    if len(values) == 5:
        return _no_outline(path, "boxes of YOLO")
    if len(values) < 7 or len(values) % 2 == 0:
        return None
    base = next((folder for folder in path.parents if any(folder.glob("*.y*ml"))), None)
    if base is not None and (base == root or root in base.parents or is_file(root)):
        return f"{path} looks like polygons of YOLO: give yolo-seg:{base}."
    return f"{path} looks like polygons of YOLO: give yolo-seg:{root}, with a data.yaml that names the classes."


def _name_unread(root: Path, files: Sequence[Path]) -> str | None:
    """Name the first folder whose files look like frames, but are not read as images."""
    endings: defaultdict[Path, Counter[str]] = defaultdict(Counter)
    for path in files:
        endings[path.parent][path.suffix.lower()] += 1
    for folder, found in endings.items():
        unread = Counter({ending: count for ending, count in found.items() if ending in WAYS_ON})
        if unread and found.keys().isdisjoint(SUFFIXES) and is_dir(root):
            ending, count = unread.most_common(1)[0]
            return f"{folder} holds {count} {ending} files, which are not read as images: {WAYS_ON[ending]}."
    return None


def _name_images(root: Path, files: Sequence[Path]) -> str | None:
    if is_file(root):
        return None
    folders = list(dict.fromkeys(path.parent for path in files if path.suffix.lower() in SUFFIXES))
    if len(folders) < 2:
        return None
    shown = ", ".join(path.relative_to(root).as_posix() for path in folders[:FOLDERS_SHOWN])
    more = ", ..." if len(folders) > FOLDERS_SHOWN else ""
    return f"Image files lie in {shown}{more}: name the folders with --images and --masks."
