"""`unip doctor`: read a sample of a folder's frames once and say what they are, what is wrong and what to do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from unip.data.config import DoctorConfig
from unip.data.examination.advice import advise_conversion, find_labels, next_steps
from unip.data.examination.bit_depth import Used, numbers_of
from unip.data.examination.fixed_defects import Camera, add_up
from unip.data.examination.frames import Reading, choose_sample, list_frames, read_frames
from unip.data.examination.likeness import likeness
from unip.data.examination.page import render_page
from unip.data.examination.polarity import guess_polarity
from unip.data.examination.records import DoctorResult, FrameMeasures, Sample, Unreadable
from unip.data.examination.symptoms import find_symptoms, near_duplicates
from unip.errors import UnipError
from unip.log import TableMessage
from unip.outputs import OutputFolder, write_json, write_text
from unip.runtime.signals import stoppable

log = logging.getLogger(__name__)

FORMAT = 1  # of doctor.json


def examine(config: DoctorConfig, outputs: OutputFolder) -> DoctorResult:
    """Do what is left of :func:`unip.data.verbs.doctor` once the folder is known to hold images."""
    with stoppable("Run the same command again."):
        result = examine_frames(config)
        if not config.dry_run:
            write_json(config.out / "doctor.json", record_of(config, result))
            write_text(config.out / "doctor.html", render_page(config.folder, result, config.radiometric))
    _print(result, config.dry_run)
    return result


def examine_frames(config: DoctorConfig) -> DoctorResult:
    """Read and judge the frames; nothing is written.

    Raises:
        UnipError: No frame can be read.
    """
    paths = list_frames(config.folder)
    sample = choose_sample(paths, config.frames)
    frames: list[FrameMeasures] = []
    unreadable: list[Unreadable] = []
    used: dict[Sample, Used] = {}
    cameras: dict[tuple[str, int, int, str], Camera] = {}

    def readable() -> Iterator[Reading]:
        for found in read_frames(sample, radiometric=config.radiometric, workers=config.workers):
            if isinstance(found, Unreadable):
                unreadable.append(found)
                continue
            kind = found.measures.sample
            frames.append(found.measures)
            used[kind] = found.used | used.get(kind, np.zeros_like(found.used))
            yield found

    add_up(readable(), cameras)
    if not frames:
        raise UnipError(
            f"no frame of {config.folder} can be read; the first: {unreadable[0].path}: {unreadable[0].problem}",
            "See `unip data check` for each file.",
        )
    judged = tuple(camera.judge() for camera in cameras.values())
    symptoms = find_symptoms(frames, judged, unreadable)
    numbers = numbers_of(frames, used)
    polarity = guess_polarity(frames, numbers)
    conversion = advise_conversion(frames, numbers)
    labels = find_labels(config.folder)
    nearest = likeness([one.features for one in frames])
    return DoctorResult(
        report=config.out / "doctor.json",
        listed=len(paths),
        frames=tuple(frames),
        unreadable=tuple(unreadable),
        numbers=numbers,
        polarity=polarity,
        palettes=dict(Counter(one.palette for one in frames if one.palette)),
        radiometric=dict(Counter(one.maker for one in frames if one.maker)),
        cameras=judged,
        near_duplicates=len(near_duplicates(frames)),
        symptoms=symptoms,
        likeness=nearest,
        conversion=conversion,
        labels=labels[0] if labels else None,
        splits=labels[1] if labels else (),
        steps=next_steps(config.folder, labels, conversion, symptoms, nearest[0]),
        notes=tuple(_notes(config, len(paths), frames)),
    )


def _notes(config: DoctorConfig, listed: int, frames: list[FrameMeasures]) -> Iterator[str]:
    if len(frames) < listed:
        yield f"{len(frames)} of {listed} frames were read, in runs of neighbours; `--frames 0` reads all."
    makers = {one.maker for one in frames if one.maker}
    if makers and not config.radiometric:
        yield (
            f"Radiometric files of {' and '.join(sorted(makers))}: their pictures were examined; `--radiometric` "
            "examines the measurements."
        )
    if "FLIR" in makers and not config.radiometric:
        yield "Temperatures of FLIR files need flyr: pip install 'unip[thermal]'."
    if "DJI" in makers:
        yield "Temperatures of DJI files need DJI's Thermal SDK (`unip data thermal-sdk`); without it there are counts."


def record_of(config: DoctorConfig, result: DoctorResult) -> dict[str, Any]:
    """Return the content of ``doctor.json``: the fields of :class:`.records.DoctorResult` without ``report``."""
    settings = config.model_dump(mode="json", include={"folder", "frames", "radiometric"})
    record = asdict(result)
    del record["report"]
    return {"format": FORMAT, "settings": settings, **record}


def _print(result: DoctorResult, dry_run: bool) -> None:
    table = Table("", "", title="Examined", show_header=False)
    sizes = Counter(f"{one.width}x{one.height}" for one in result.frames)
    table.add_row("frames", f"{len(result.frames)} of {result.listed}, {', '.join(list(sizes)[:4])} pixels")
    bits = result.numbers.real_bits
    depth = f", {bits} of {result.numbers.stored_bits} bits" if bits else ""
    table.add_row("numbers", f"{result.numbers.kind} ({result.numbers.unit}{depth})")
    table.add_row("polarity", result.polarity.polarity or "cannot be told from pixels")
    for name, found in (("palette", result.palettes), ("radiometric", result.radiometric)):
        if found:
            table.add_row(name, ", ".join(f"{key} ({count})" for key, count in found.items()))
    table.add_row("likeness", result.likeness[0].words)
    advised = result.conversion
    table.add_row("conversion", " ".join(advised.options) or f"the default: {advised.conversion.describe()}")
    table.add_row("labels", f"--data {result.labels}" if result.labels else "none found")
    log.info(TableMessage(table))
    for one in result.symptoms:
        log.info(f"{one.kind}{'' if one.widespread else f' in {one.count} frames'}: {one.detail}")
    if not result.symptoms:
        log.info("No defect was found.")
    for note in result.notes:
        log.info(f"note: {note}")
    log.info("Next:")
    for step in result.steps:
        log.info(f"  {step.command}")
    log.info(f"{'dry run, not written:' if dry_run else 'written:'} {result.report} and doctor.html")
