"""How often `unip doctor` finds each defect, and how often it reports one in clean frames.

    python benchmarks/doctor.py hit-uav=DATA/hit-uav/val/images tir-ss=DATA/tir-ss/val/images drones=DATA/drones/thermal
    python benchmarks/doctor.py --references hit-uav=DATA/hit-uav/train/images infmix-open=DATA/infmix-open

Sets are neighbouring frames of one source, as a user has them. In each, the frames are taken as they are, and with each
corruption or made defect. A set counts as found if the symptom is reported as widespread, a frame if its own measures
report it: in its set, or alone. ``--real SOURCE:SYMPTOM,...`` names what the frames of a source have as they are, as
was seen by eye; it is not counted as false. ``--references`` writes the statistics that likeness is judged by instead.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

import unip.data.examination
from unip.data.corruptions import CORRUPTIONS, CorruptFrames
from unip.data.corruptions.corruption import Grey8
from unip.data.examination.fixed_defects import add_up
from unip.data.examination.frames import list_frames, measure_frame, read_frame
from unip.data.examination.likeness import as_stored, summarise
from unip.data.examination.records import FrameMeasures
from unip.data.examination.symptoms import RULES, SYMPTOMS, find_symptoms, kinds_of
from unip.data.images.decoding import read_grey8

Frames = list[Grey8]
Real = dict[str, set[str]]  # symptoms by source


def frozen(frames: Frames, seed: int) -> Frames:
    """Two neighbouring frames of the set are the same, as while a shutter is closed."""
    place = np.random.default_rng(seed).integers(len(frames) - 1)
    return [frames[place] if i == place + 1 else frame for i, frame in enumerate(frames)]


def overlay(frames: Frames, seed: int) -> Frames:
    """A colour bar, a text and a crosshair of one grey level or two in every frame."""
    level = int(np.random.default_rng(seed).integers(200, 256))
    return [draw_overlay(frame, level) for frame in frames]


def draw_overlay(frame: Grey8, level: int) -> Grey8:
    picture = Image.fromarray(frame.copy())
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    for row in range(height // 4, 3 * height // 4):
        shade = int(255 * (row - height // 4) / (height // 2))
        pen.line((width - 14, row, width - 6, row), fill=shade)
    pen.text((6, 6), "max 37.2 C", fill=level)
    pen.line((width // 2 - 8, height // 2, width // 2 + 8, height // 2), fill=level)
    pen.line((width // 2, height // 2 - 8, width // 2, height // 2 + 8), fill=level)
    return np.asarray(picture)


def border(frames: Frames, seed: int) -> Frames:
    """Black bars at top and bottom."""
    found = [frame.copy() for frame in frames]
    for frame in found:
        frame[:6], frame[-6:] = 0, 0
    return found


def few_levels(frames: Frames, seed: int) -> Frames:
    """Six bits, stretched to eight."""
    return [(frame >> 2 << 2) | (frame >> 6) for frame in frames]


@dataclass(frozen=True)
class Defect:
    """What is done to a set, and the symptoms of sets and of single frames that tell it (none: not told by those)."""

    apply: Callable[[Frames, int], Frames]
    of_set: tuple[str, ...]
    of_frame: tuple[str, ...]


def corrupted(name: str, severity: int) -> Callable[[Frames, int], Frames]:
    def apply(frames: Frames, seed: int) -> Frames:
        corrupt = CorruptFrames(name, severity, seed)
        return [corrupt(frame, i) for i, frame in enumerate(frames)]

    return apply


TOLD = {
    "dead_pixels": ("dead pixels",),
    "stripes": ("stripes",),
    "temporal_noise": ("noise",),
    "jpeg": ("compression",),
    "saturation": ("saturated", "empty levels"),
    "low_contrast": ("low contrast",),
    "agc_pumping": ("low contrast",),
    "defocus": ("blur",),
    "motion": ("blur",),
    "resolution": ("blur",),
    "fog": ("low contrast",),
    "rain": ("low contrast",),
    "polarity": (),
}


FALSE_ALARMS = (0.01, 0.02, 0.05)
COMPARED = (
    ("motion", "blur", ("edge width", "blur")),
    ("defocus", "blur", ("edge width", "blur")),
    ("resolution", "blur", ("edge width", "blur")),
    ("fog", "low contrast", ("-span", "low contrast")),
    ("rain", "low contrast", ("-span", "low contrast")),
    ("jpeg", "compression", ("blockiness", "compression")),
)


def defects(severity: int) -> dict[str, Defect]:
    """Return all defects by name."""
    made = {
        "frozen frames": Defect(frozen, ("frozen",), ()),
        "overlay": Defect(overlay, ("overlay",), ()),
        "black border": Defect(border, ("border",), ()),
        "6 bits in 8": Defect(few_levels, ("empty levels",), ("empty levels",)),
        "fixed_pattern": Defect(corrupted("fixed_pattern", severity), ("fixed pattern",), ("noise",)),
    }
    rest = {name: Defect(corrupted(name, severity), kinds, kinds) for name, kinds in TOLD.items()}
    assert set(CORRUPTIONS) == set(TOLD) | {"fixed_pattern"}
    return made | rest


@dataclass(frozen=True)
class Told:
    """The symptoms of a set (the widespread ones, and frozen frames), of its frames, and of each of them alone."""

    widespread: set[str]
    frames: list[set[str]]
    alone: list[set[str]]
    badness: list[dict[str, float]]


def symptoms_of(frames: Frames) -> Told:
    """Examine a set."""
    cameras: dict = {}
    readings = [measure_frame(frame, f"set/{number}.png") for number, frame in enumerate(frames)]
    add_up(readings, cameras)
    measures = [reading.measures for reading in readings]
    found = find_symptoms(measures, [camera.judge() for camera in cameras.values()])
    widespread = {one.kind for one in found if one.widespread or one.kind == "frozen"}
    return Told(widespread, kinds_of(measures), [kinds_of([one])[0] for one in measures], list(map(badness, measures)))


def badness(one: FrameMeasures) -> dict[str, float]:
    """Return what limits are chosen for, and single measures to compare with."""
    single = {"edge width": one.edge_width or 0.0, "-span": -one.span, "blockiness": one.blockiness}
    return {rule.kind: rule.badness(one) for rule in RULES} | single


def sets_of(folder: Path, size: int, most: int) -> list[list[str]]:
    """Cut a folder into sets of neighbouring frames of one size, at most so many, evenly chosen."""
    paths = list_frames(folder)
    starts = list(range(0, len(paths) - size + 1, size))
    chosen = np.unique(np.linspace(0, len(starts) - 1, min(most, len(starts))).round().astype(int))
    return [paths[starts[i] : starts[i] + size] for i in chosen]


def measure(sources: dict[str, Path], real: Real, size: int, most: int, severity: int, workers: int) -> None:
    """Print the tables."""
    every = defects(severity)
    clean: dict[str, list[Told]] = defaultdict(list)
    found: dict[str, dict[str, list[Told]]] = defaultdict(lambda: defaultdict(list))

    def look(job: tuple[str, int, list[str]]) -> tuple[str, dict[str, Told]]:
        source, seed, paths = job
        frames = [read_grey8(path) for path in paths]
        told = {"clean": symptoms_of(frames)}
        return source, told | {name: symptoms_of(each.apply(frames, seed)) for name, each in every.items()}

    jobs = [(name, i, paths) for name, folder in sources.items() for i, paths in enumerate(sets_of(folder, size, most))]
    with ThreadPoolExecutor(workers) as pool:
        for source, told in pool.map(look, jobs):
            clean[source].append(told.pop("clean"))
            for name, one in told.items():
                found[name][source].append(one)
    console = Console(width=160)
    console.print(table_of_defects(every, found, clean, real, severity))
    console.print(table_of_clean(clean))
    console.print(table_of_limits(found, clean, real))


def shares(told: Sequence[Told], of_set: Sequence[str], of_frame: Sequence[str]) -> tuple[float, float, float]:
    """Return the shares of sets, of frames and of frames alone that show one of some symptoms, in percent."""
    sets = [bool(set(of_set) & one.widespread) for one in told]
    frames = [bool(set(of_frame) & kinds) for one in told for kinds in one.frames]
    alone = [bool(set(of_frame) & kinds) for one in told for kinds in one.alone]
    return 100 * float(np.mean(sets)), 100 * float(np.mean(frames)), 100 * float(np.mean(alone))


def table_of_defects(
    every: dict[str, Defect], found: dict, clean: dict[str, list[Told]], real: Real, severity: int
) -> Table:
    sets, frames = sum(map(len, clean.values())), sum(len(told.frames) for one in clean.values() for told in one)
    table = Table("defect", "told by", title=f"Severity {severity}; {sets} sets, {frames} frames; found and false, %")
    for name in ("sets found", "false", "frames found", "alone", "false ", "worst source (sets found)"):
        table.add_column(name, justify="right")
    for name, defect in every.items():
        if not defect.of_set:
            table.add_row(name, "cannot be told", *["-"] * 6)
            continue
        told = [one for source in found[name].values() for one in source]
        none = [one for key, each in clean.items() if not real[key] & set(defect.of_set) for one in each]
        hit, wrong = shares(told, defect.of_set, defect.of_frame), shares(none, defect.of_set, defect.of_frame)
        by_source = {key: shares(one, defect.of_set, defect.of_frame)[0] for key, one in found[name].items()}
        worst = min(by_source, key=lambda key: by_source[key])
        single = [f"{hit[1]:.1f}", f"{hit[2]:.1f}", f"{wrong[1]:.1f}"] if defect.of_frame else ["-"] * 3
        row = [f"{hit[0]:.1f}", f"{wrong[0]:.1f}", *single, f"{worst} {by_source[worst]:.0f}"]
        table.add_row(name, ", ".join(defect.of_set), *row)
    return table


def table_of_clean(clean: dict[str, list[Told]]) -> Table:
    table = Table("symptom", title="Reported in the frames as they are: % of sets / % of frames")
    for source, told in clean.items():
        table.add_column(f"{source} ({len(told)} sets)", justify="right")
    for kind in SYMPTOMS:
        rates = [shares(told, [kind], [kind]) for told in clean.values()]
        if any(a or b for a, b, _ in rates):
            table.add_row(kind, *(f"{a:.0f} / {b:.1f}" for a, b, _ in rates))
    return table


def table_of_limits(found: dict, clean: dict[str, list[Told]], real: Real) -> Table:
    """Compare measures: what they find in single frames at some rates of false alarms, and the limits for those."""
    table = Table("defect", "measure", title="Single frames: found, %, (and limit) at some rates of false alarms")
    for share in FALSE_ALARMS:
        table.add_column(f"{share:.0%}", justify="right")
    for name, kind, measures in COMPARED:
        usual = [one for key, each in clean.items() if kind not in real[key] for told in each for one in told.badness]
        for measure in measures:
            bad = np.array([one[measure] for each in found[name].values() for told in each for one in told.badness])
            limits = np.quantile([one[measure] for one in usual], [1 - share for share in FALSE_ALARMS])
            table.add_row(name, measure, *(f"{100 * (bad > limit).mean():.1f} ({limit:.2f})" for limit in limits))
    return table


def write_references(sources: dict[str, Path]) -> None:
    """Write likeness.json: statistics of whole data sets."""
    found = {}
    for name, folder in sources.items():
        paths = list_frames(folder)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found[name] = summarise(list(pool.map(lambda path: read_frame(path).measures.features, paths)))
        print(f"{name}: {len(paths)} frames", flush=True)
    place = Path(unip.data.examination.__file__).with_name("likeness.json")
    place.write_text(as_stored(found), encoding="utf-8")
    print(f"written: {place}")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="NAME=FOLDER")
    parser.add_argument("--references", action="store_true", help="write likeness.json of these folders")
    parser.add_argument("--real", nargs="+", default=[], help="SOURCE:SYMPTOM,...: what its frames have as they are")
    parser.add_argument("--set-size", type=int, default=24, help="frames in a set")
    parser.add_argument("--sets", type=int, default=10, help="sets of a source, at most")
    parser.add_argument("--severity", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="threads")
    args = parser.parse_args()
    sources = {name: Path(folder) for name, _, folder in (source.partition("=") for source in args.sources)}
    if args.references:
        write_references(sources)
    else:
        real: Real = {name: set() for name in sources}
        for text in args.real:
            source, _, kinds = text.partition(":")
            real[source] |= set(kinds.split(","))
            if not real[source] <= SYMPTOMS.keys():
                parser.error(f"{text}: not a symptom; known: {', '.join(SYMPTOMS)}")
        measure(sources, real, args.set_size, args.sets, args.severity, args.workers)


if __name__ == "__main__":
    main()
