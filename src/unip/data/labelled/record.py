"""What a run recorded of its labelled images when it started, so that it need not read them again to continue."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unip.data.labelled.masks import MaskSource
from unip.data.labelled.pairs import Pair, SegmentationData
from unip.data.labelled.statistics import Measure, PairFacts, read_pairs
from unip.data.labelled.turning import mask_files
from unip.documents import try_fit
from unip.files import read_json
from unip.paths import status
from unip.runtime.memory import Cache

ABSENT = (-1, -1)  # stamp of a file that is not there any more
Stamp = tuple[int, ...]  # size in bytes, time of change in ns; of a mask also a checksum of how it is read


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair, as they were when it was read."""

    image: str
    mask: str
    image_stamp: Stamp
    mask_stamp: Stamp

    def stamps(self) -> dict[str, Stamp]:
        """Return the stamp of each file."""
        return {self.image: self.image_stamp, self.mask: self.mask_stamp}


@dataclass(frozen=True)
class Reading:
    """How the files of a split are read; all but its name as JSON text."""

    name: str
    classes: str
    ids: str
    channel: str
    conversion: str

    @classmethod
    def of(cls, data: SegmentationData, name: str) -> Reading:
        """Return how data with this name is read."""
        conversion = data.conversion and data.conversion.model_dump(mode="json")
        return cls(name, *map(json.dumps, (data.classes.names, data.ids, data.channel, conversion)))

    def differences(self, other: Reading) -> list[str]:
        """Name what differs in another reading of the same split."""
        pairs = zip(vars(self).items(), vars(other).values(), strict=True)
        return [f"{name} {now}, then {then}" for (name, now), then in pairs if now != then]


@dataclass(frozen=True)
class LabelRecord:
    """The pairs of a split.

    Attributes:
        read_as: How they are read.
        files: Of all pairs.
        facts: Of each pair; None where it is left out by a label budget.
    """

    read_as: Reading
    files: tuple[PairFiles, ...]
    facts: tuple[PairFacts | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        files = [dataclasses.astuple(each) for each in self.files]
        facts = [each and _values(each) for each in self.facts]
        return {"read_as": vars(self.read_as), "pairs": list(zip(files, facts, strict=True))}

    @classmethod
    def from_dict(cls, record: SavedRecord) -> LabelRecord:
        """Take what :meth:`to_dict` returns."""
        files, facts = zip(*record.pairs, strict=True)
        return cls(
            record.read_as,
            tuple(PairFiles(*values) for values in files),
            tuple(values and _facts(*values) for values in facts),
        )


FileValues = tuple[str, str, Stamp, Stamp]
FactValues = tuple[tuple[int, int], int, tuple[int, ...], list[tuple[int, int]], bool, bool, bool, str, float | None]


@dataclass(frozen=True)
class SavedRecord:
    """A record as JSON has it."""

    read_as: Reading
    pairs: list[tuple[FileValues, FactValues | None]]


def read_records(path: Path) -> dict[str, LabelRecord]:
    """Read what a run recorded; nothing is known where another version wrote it."""
    found = try_fit(read_json(path, file_names=True), dict[str, SavedRecord]) or {}
    return {name: LabelRecord.from_dict(values) for name, values in found.items() if values.pairs}


@dataclass(frozen=True)
class CheckedLabels:
    """Pairs that can be read.

    Attributes:
        name: Of data set and split.
        data: The pairs, those of the label budget alone if there is one.
        facts: Of each.
        pairs: The decoded pairs, if they are kept.
        record: Of the whole split as it was read first.
        changed: Files that changed since the record before was made.
        read_otherwise: What differs in how the same split was read then.
    """

    name: str
    data: SegmentationData
    facts: list[PairFacts]
    pairs: list[Pair] | None
    record: LabelRecord
    changed: tuple[str, ...] = ()
    read_otherwise: tuple[str, ...] = ()


def check_labels(
    data: SegmentationData,
    name: str,
    measure: Measure,
    *,
    known: LabelRecord | None = None,
    limit: Callable[[], list[int]] | None = None,
    cache: Cache = "none",
) -> CheckedLabels:
    """Decode every pair once, except those that are known and whose files did not change since.

    Args:
        data: All pairs of a split.
        name: Of data set and split.
        measure: See :func:`unip.data.labelled.statistics.read_pairs`.
        known: What an earlier call recorded.
        limit: Chooses the pairs of a label budget, by number; called unless it is known which these are.
        cache: Whether decoded pairs are kept, if all of them are read now.

    Raises:
        UnipError: As :func:`unip.data.labelled.datasets.check_segmentation` does.
    """
    read_as = Reading.of(data, name)
    otherwise: tuple[str, ...] = ()
    if known is not None and known.read_as != read_as:
        otherwise = tuple(read_as.differences(known.read_as)) if known.read_as.name == name else ()
        known = None
    files = tuple(
        PairFiles(str(image), str(mask.path), _stamp(image), _mask_stamp(mask))
        for image, mask in zip(data.images, data.masks, strict=True)
    )
    changed = () if known is None else _differing(known.files, files)
    there = {} if known is None else dict(zip(known.files, known.facts, strict=True))
    if known is not None and known.files == files:
        chosen = [number for number, facts in enumerate(known.facts) if facts is not None]
    else:
        chosen = list(range(len(data))) if limit is None else limit()
    found = {number: there.get(files[number]) for number in chosen}
    missing = [number for number, facts in found.items() if facts is None]
    pairs = None
    if missing:
        complete = len(missing) == len(found)
        new, pairs = read_pairs(data.take(missing), measure, cache if complete else "none")
        found |= dict(zip(missing, new, strict=True))
    record = known or LabelRecord(read_as, files, tuple(found.get(number) for number in range(len(data))))
    facts = [each for each in found.values() if each]
    return CheckedLabels(name, data.take(chosen), facts, pairs, record, changed, otherwise)


def _stamp(path: Path) -> Stamp:
    try:
        info = status(path)
    except OSError:  # whoever reads it says so
        return ABSENT
    return info.st_size, info.st_mtime_ns


def _mask_stamp(mask: MaskSource) -> Stamp:
    """Return the stamp of its file, and what else it depends on: a palette, names, the files of other classes."""
    others = [_stamp(path) for path in mask_files(mask)[1:]]
    return *_stamp(mask.path), zlib.crc32(repr((mask, others)).encode())


def _differing(old: Sequence[PairFiles], new: Sequence[PairFiles]) -> tuple[str, ...]:
    """Return the files that were changed, added or removed."""
    before, now = ({path: stamp for each in files for path, stamp in each.stamps().items()} for files in (old, new))
    return tuple(path for path in {**now, **before} if before.get(path) != now.get(path))


def _values(facts: PairFacts) -> list[Any]:
    """Return the fields as JSON values."""
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in vars(facts).values()]


def _facts(
    size: tuple[int, int], decoded: int, pixels: tuple[int, ...], objects: list[tuple[int, int]], *rest: Any
) -> PairFacts:
    return PairFacts(size, decoded, pixels, np.array(objects, np.int64).reshape(-1, 2), *rest)
