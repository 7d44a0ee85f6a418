"""What docs/families.md says of the numbers: tables, and sentences that follow from them by a rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from families_measuring import Family, Focus, ImageSet, Row
from unip.attention.patterns import Pattern

TIE = 0.5  # points of mIoU below which two layers are not told apart


@dataclass(frozen=True)
class Probed:
    """What the probes of a model say on a set; layers count from 1.

    Attributes:
        best: The layer that segments best.
        pattern: Its pattern.
        nmi: Its NMI.
        miou: Its mIoU, in percent.
        chosen: That of the layer that NMI chooses.
        last: That of the last layer.
        by_pattern: The best mIoU of each pattern's layers.
    """

    best: int
    pattern: str
    nmi: float
    miou: float
    chosen: float | None
    last: float
    by_pattern: dict[str, float]

    @property
    def lost(self) -> float | None:
        """Points that NMI's layer is behind the best one."""
        return None if self.chosen is None else self.miou - self.chosen


@dataclass(frozen=True)
class Finding:
    """What was found in one model on one set.

    Attributes:
        family: The model.
        images: The set.
        row: What was measured.
        focus: Where the attention goes.
        order: Its patterns from the first layer to the last, such as ``local → hybrid → global``.
        layers: The layers of each pattern, such as ``1–4``.
        probed: What the probes say; None where there are none.
    """

    family: Family
    images: ImageSet
    row: Row
    focus: Focus
    order: str
    layers: dict[str, str]
    probed: Probed | None


@dataclass(frozen=True)
class WrittenFor:
    """The run that the page's text was written for by hand.

    Attributes:
        date: Of the run.
        images: Frames of each set.
        probe_images: Frames to train and to test probes on.
        weights: SHA-256 of each model's, by its key.
    """

    date: str
    images: int
    probe_images: tuple[int, int]
    weights: Mapping[str, str]

    def differences(
        self, images: int, probe_images: tuple[int, int], found: Mapping[tuple[str, str], Finding]
    ) -> list[str]:
        """Return how a run differs from this one, so that the text may be wrong of it; nothing if it does not.

        Args:
            images: Frames of each set.
            probe_images: Frames to train and to test probes on.
            found: What was found in each model on each set, by the keys of both.
        """
        said = [f"{images} frames of each set, not {self.images}"] * (images != self.images)
        if probe_images != self.probe_images:
            said.append("{} and {} frames for probes, not {} and {}".format(*probe_images, *self.probe_images))
        measured = {one.family.key: one for one in found.values()}
        for key, sha256 in self.weights.items():
            if key not in measured:
                said.append(f"the model `{key}` is not there")
            elif measured[key].row.sha256 != sha256:
                said.append(f"{measured[key].family.label} has other weights than {sha256[:12]}")
        return said


def find(family: Family, images: ImageSet, row: Row, focus: Focus) -> Finding:
    """Sum up what was measured of a model on a set."""
    names: tuple[Pattern, ...] = ("local", "hybrid", "global")
    return Finding(
        family=family,
        images=images,
        row=row,
        focus=focus,
        order=" → ".join(name for name, _ in groupby(row.patterns)),
        layers={name: ranges([n for n, found in enumerate(row.patterns, 1) if found == name]) for name in names},
        probed=probed(row) if row.miou else None,
    )


def probed(row: Row) -> Probed:
    """Sum up a row's probes."""
    best = int(np.argmax(row.miou))
    by_pattern: dict[str, float] = {}
    for pattern, miou in zip(row.patterns, row.miou, strict=True):
        by_pattern[pattern] = max(miou, by_pattern.get(pattern, 0.0))
    return Probed(
        best=best + 1,
        pattern=row.patterns[best],
        nmi=row.nmi[best],
        miou=row.miou[best],
        chosen=None if row.chosen is None else row.miou[row.chosen - 1],
        last=row.miou[-1],
        by_pattern=by_pattern,
    )


def ranges(numbers: Sequence[int]) -> str:
    """Write rising numbers with their runs joined: ``1–4, 7``; a dash for none."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs) or "–"


def hybrid_is_best(probed: Probed) -> str:
    """Say whether a hybrid layer segments best, where a lead below ``TIE`` does not count."""
    hybrid = probed.by_pattern.get("hybrid")
    if hybrid is None:
        return "no hybrid layer"
    others = [miou for pattern, miou in probed.by_pattern.items() if pattern != "hybrid"]
    lead = hybrid - max(others, default=0.0)
    return "yes" if lead >= TIE or not others else "no" if lead <= -TIE else "a tie"


@dataclass(frozen=True)
class Tally:
    """How often a hybrid layer segments best, over models and sets; points are of mIoU.

    Attributes:
        cases: Models times sets.
        yes: A hybrid layer leads.
        ties: By less than ``TIE``, or is that little behind.
        lost: Mean points that NMI's layer is behind the best one.
        lost_most: The most.
        lost_last: Mean points that the last layer is behind the best one.
    """

    cases: int
    yes: int
    ties: int
    lost: float
    lost_most: float
    lost_last: float


def tally(found: Iterable[Finding]) -> Tally:
    """Count over all that was probed, controls aside."""
    every = [one.probed for one in found if one.probed and one.family.key != "random"]
    said = [hybrid_is_best(probed) for probed in every]
    lost = [probed.lost for probed in every if probed.lost is not None]
    return Tally(
        cases=len(every),
        yes=said.count("yes"),
        ties=said.count("a tie"),
        lost=float(np.mean(lost)) if lost else 0.0,
        lost_most=max(lost, default=0.0),
        lost_last=float(np.mean([probed.miou - probed.last for probed in every])),
    )
