"""The page of `unip data check`: one HTML file that needs no other."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.data.findings import FINDING_KINDS, Finding, SourceCount
from unip.data.label_findings import SetSummary
from unip.data.labelled.statistics import rare_classes
from unip.data.labelled_sets import LabelledSet
from unip.data.looking import Sample, Seen, read_picture
from unip.data.manifests.sources import printable
from unip.pages import page_template

WITHOUT_PICTURE = (
    *("unreadable", "damaged", "bomb", "bad mask", "mask size", "unknown id", "no image"),
    *("labels", "doubtful ids", "empty class"),
)
LISTED = 200  # files without a picture that the page names
MISFITS = 4  # frames of a split whose masks fit the edges least
NOTED = 12  # pictures of a kind that is only worth a look
BARS = 64  # of a histogram

Picture = Callable[[bytes], str]


@dataclass(frozen=True)
class Checked:
    """What was checked and found.

    Attributes:
        sources: As they were given.
        images: How many files were looked at.
        bad: How many of them have a finding.
        table: Counts by source.
        findings: By kind, worst first.
        hints: On whole sources.
        skipped: Files that are not read as images, in a sentence for each source.
        sets: The splits with labels.
        summaries: Of each of these.
        seen: Pictures and levels of some frames, and the facts of the masks.
    """

    sources: Sequence[str]
    images: int
    bad: int
    table: Sequence[SourceCount]
    findings: Sequence[Finding]
    hints: Sequence[str]
    skipped: Sequence[str] = ()
    sets: Sequence[LabelledSet] = ()
    summaries: Sequence[SetSummary] = ()
    seen: Seen = field(default_factory=Seen)


def render_check_page(found: Checked, worst: int) -> str:
    """Return the page; ``worst`` is the number of pictures of each kind, of which two dozen take up to 700 kB."""
    labels = {path: each for each in found.sets for path in each.images}
    drawn = {sample.path: sample.picture for samples in found.seen.samples.values() for sample in samples}

    @functools.cache  # one file may be found wrong in several ways
    def picture(path: bytes) -> str:
        return drawn.get(path) or read_picture(path, labels.get(path))

    template = page_template("unip.data", "check.html.j2")
    return template.render(
        sources=[printable(source) for source in found.sources],
        images=found.images,
        bad=found.bad,
        table=found.table,
        kinds=_kinds(found, worst, labels, picture),
        hints=list(found.hints),
        skipped=list(found.skipped),
        labels=[_labels(summary, min(worst, MISFITS), picture) for summary in found.summaries],
        legends=_legends(found.summaries),
        frames=[_frames(source, samples, labels) for source, samples in sorted(found.seen.samples.items())],
    )


def _kinds(found: Checked, worst: int, labels: dict[bytes, LabelledSet], picture: Picture) -> list[dict[str, Any]]:
    kinds = []
    for name, kind in FINDING_KINDS.items():
        members = [finding for finding in found.findings if finding.kind == name]
        if not members:
            continue
        whole = [finding.detail for finding in members if finding.frames and finding.frames[0] != finding.path]
        if name in WITHOUT_PICTURE:
            paths = [(finding.path, finding.source, finding.detail) for finding in members[:LISTED]]
            shown = [_named(*parts) for parts in paths]
        else:
            paths = _paths(members, name, found, labels)[: worst if kind.severity != "note" else min(worst, NOTED)]
            shown = [_named(*parts) | {"image": picture(parts[0])} for parts in paths]
        kinds.append(
            {
                "name": name,
                "kind": kind,
                "count": sum(finding.count for finding in members),
                "whole": whole,
                "labelled": any(path in labels for path, _, _ in paths),
                "pictures": name not in WITHOUT_PICTURE,
                "frames": shown,
                "more": name not in ("slivers",) and len(shown) < len(members),
            }
        )
    return kinds


def _paths(
    members: Sequence[Finding], name: str, found: Checked, labels: dict[bytes, LabelledSet]
) -> list[tuple[bytes, str, str]]:
    """Return the frames that show findings, their sources and what is said below: those of whole sets in turn."""
    rows: list[list[tuple[bytes, str, str]]] = []
    for finding in members:
        row = []
        for frame in finding.frames or (finding.path,):
            detail = finding.detail if frame == finding.path else labels[frame].title if frame in labels else ""
            mask = found.seen.masks.get(frame)
            if name == "slivers" and mask and mask.slivers is not None:
                detail = f"{detail}, {int(mask.slivers.sum())} slivers"
            row.append((frame, finding.source, detail))
        rows.append(row)
    deepest = max(map(len, rows), default=0)
    if name == "across splits":  # both frames side by side
        return [part for row in rows for part in row]
    return [row[i] for i in range(deepest) for row in rows if i < len(row)]


def _named(path: bytes, source: str, detail: str) -> dict[str, str]:
    text = printable(path)
    return {"path": text, "name": text.rsplit("/", 1)[-1], "source": source, "detail": detail, "image": ""}


def _labels(summary: SetSummary, misfits: int, picture: Picture) -> dict[str, Any]:
    """Return the class shares of a split, and the frames whose masks fit the edges least."""
    largest = max((each.share for each in summary.classes), default=0) or 1
    rare = rare_classes({each.name: each.pixels for each in summary.classes})
    return {
        "summary": summary,
        "classes": [
            {
                "name": each.name,
                "colour": _hex(each.colour),
                "bar": 100 * each.share / largest,
                "share": f"{100 * each.share:.2f} %" if each.pixels else "none",
                "masks": each.masks,
                "rare": each.name in rare,
            }
            for each in summary.classes
        ],
        "misfits": [_named(path, "", summary.title) | {"image": picture(path)} for path in summary.misfits[:misfits]],
    }


def _legends(summaries: Sequence[SetSummary]) -> list[list[tuple[str, str]]]:
    """Return names and colours of the classes, once for sets that share them."""
    every = [tuple((each.name, _hex(each.colour)) for each in summary.classes) for summary in summaries]
    return [list(legend) for legend in dict.fromkeys(every)]


def _frames(source: str, samples: Sequence[Sample], labels: dict[bytes, LabelledSet]) -> dict[str, Any]:
    """Return pictures and the histogram of frames of a source."""
    shown = [
        _named(sample.path, source, labels[sample.path].title if sample.path in labels else "")
        | {"image": sample.picture}
        for sample in samples
        if sample.picture
    ]
    ((depth, count),) = Counter(len(sample.levels) for sample in samples).most_common(1)  # counts of 8 or of 16 bits
    levels = np.sum([sample.levels for sample in samples if len(sample.levels) == depth], axis=0)
    return {
        "source": source,
        "shown": shown,
        "counted": f"{count} frame{'s' if count > 1 else ''}",
        "histogram": bars(levels),
    }


def bars(levels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Put counted levels into bars between the least and the greatest that occur, all 256 of 8-bit frames.

    Returns:
        ``low`` and ``high``: the levels at the ends; ``heights``: 0 to 1 of the highest bar; ``unit``: of the levels.
    """
    used = np.flatnonzero(levels)
    low, high = (0, 255) if len(levels) == 256 else (int(used[0]), int(used[-1]))
    ends = np.linspace(low, high + 1, min(BARS, high + 1 - low) + 1)
    places = np.clip(np.searchsorted(ends, used, side="right") - 1, 0, len(ends) - 2)
    heights = np.bincount(places, weights=levels[used], minlength=len(ends) - 1)
    unit = "grey levels" if len(levels) == 256 else "counts"
    return {"low": low, "high": high, "heights": (heights / heights.max()).tolist(), "unit": unit}


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
