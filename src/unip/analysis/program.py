"""`unip analyze`: how models attend to images, layer by layer, and which layer to distil."""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import timm
import torch
from markupsafe import Markup

from unip.analysis.config import AnalyzeConfig
from unip.analysis.explorer import ExplorerImage, render_explorer
from unip.analysis.figures import analysis_figures, write_figure, write_picture
from unip.analysis.groups import group_of, source_name
from unip.analysis.inputs import evenly_spaced, frames, input_side, normalization_of
from unip.analysis.inspection import Inspection, inspect_model, thresholds_of
from unip.analysis.records import (
    Analysis,
    DifferenceRecord,
    ImagesRecord,
    ModelRecord,
    PairRecord,
    Preprocessing,
)
from unip.analysis.report import render_analysis
from unip.analysis.samples import Sample, UnreadableImage, draw_sample, list_files
from unip.analysis.summaries import difference, layer_table, parquet_table
from unip.errors import UnipError
from unip.features.config import ProbeSettings
from unip.log import TableMessage
from unip.outputs import OutputFolder, write_json, write_text, writing
from unip.runtime.device import choose_device
from unip.segmentation.metrics import percent
from unip.segmentation.probe_data import ProbeData
from unip.segmentation.probing import probe_layers
from unip.version import __version__
from unip.vit.backbone import Backbone, load_backbone
from unip.vit.shape import check_layer, depth_of

log = logging.getLogger(__name__)

EXPLORER_SIDE = 336  # pixels of the pictures under the explorer's maps
EXPLORER_PLACE = Markup("<!-- explorer -->")
REPORT_BYTES = 24_900_000  # of the whole page: the explorer's maps get what the rest leaves
EXPLORER_BYTES = 500_000  # of the explorer without its maps: pictures and script


@dataclass(frozen=True)
class AnalyzeResult:
    """Where the analysis is and what it says."""

    out: Path
    analysis: Analysis


@dataclass(frozen=True)
class AnalysisPlan:
    """What is to be analysed: everything is there and fits.

    Attributes:
        sample: The images.
        unpaired: How many others have no partner.
        backbones: The models, with their input sides in pixels.
        probe: What the linear probes are trained with, None where there are none.
        splits: The labelled images of the probes, and the name of the split to test on.
    """

    config: AnalyzeConfig
    sample: Sample
    unpaired: int
    backbones: list[tuple[Backbone, int]]
    probe: ProbeSettings | None
    splits: ProbeData | None


def prepare(config: AnalyzeConfig, probe: ProbeSettings | None, splits: ProbeData | None) -> AnalysisPlan:
    """Load the models and draw the images.

    Raises:
        UnipError: A model or every image cannot be read, or the settings do not fit a model.
    """
    files, unpaired = list_files(config)
    loaded = [load_backbone(source) for source in config.models]
    backbones = [(backbone, input_side(config, backbone)) for backbone in loaded]
    for backbone in loaded:
        for layer in config.exclude_layers:
            check_layer(backbone.model, layer)
    sides = {side for _, side in backbones} | ({EXPLORER_SIDE} if config.report and config.explorer else set())
    sample = draw_sample(config, files, sorted(sides))
    return AnalysisPlan(config, sample, unpaired, backbones, probe, splits)


def describe(plan: AnalysisPlan) -> None:
    """Say which images and models are analysed, and how."""
    config, sample = plan.config, plan.sample
    log.info(f"{len(sample.names)} of {sample.of} {'pairs of images' if config.pair else 'images'}")
    for skipped in sample.skipped:
        log.warning(f"skipped: {as_utf8(skipped.reason)}")
    if plan.unpaired:
        log.warning(f"{plan.unpaired} images have no partner in {', '.join(config.pair)} and are left out")
    if plan.splits is not None:
        train, test, split = plan.splits
        log.info(f"probe: {len(train)} images of {config.probe} to train on, {len(test)} ({split}) to test on")
    for backbone, side in plan.backbones:
        log.info(str(backbone.report or f"{backbone.source}: random weights"))
        log.info(f"{backbone.source}: {depth_of(backbone.model)} layers, images resized to squares of {side} px")
    if config.dry_run:
        log.info(f"dry run: would write {config.out}; nothing was written")


def run(plan: AnalysisPlan, outputs: OutputFolder) -> AnalyzeResult:
    """Measure and probe all models, and write what was found.

    Raises:
        UnipError: A layer's attention is not finite, memory is too small, or a probe failed (the rest is written).
    """
    config = plan.config
    names = short_names(config.models)
    groups = config.groups or tuple(group_of(source) for source in config.models)
    found: list[Inspection] = []
    failure: UnipError | None = None
    for (backbone, _), name, group in zip(plan.backbones, names, groups, strict=True):
        inspection = inspect_model(config, backbone, name, group, plan.sample)
        if plan.probe is not None and failure is None:
            try:
                inspection = probed(plan, backbone, inspection)
            except UnipError as error:  # what was measured is written first
                failure = error
        found.append(inspection)
        backbone.model.cpu()  # one model at a time on the device
    analysis = analysis_of(plan, found)
    for record in analysis.models:
        show(record)
    write_analysis(config, outputs, analysis, found, plan.sample)
    if failure is not None:
        raise UnipError(f"the probe failed; everything else was written: {failure.what}", failure.fix)
    return AnalyzeResult(config.out, analysis)


def probed(plan: AnalysisPlan, backbone: Backbone, inspection: Inspection) -> Inspection:
    """Probe the layers of a model, and put the scores into its first record."""
    assert plan.probe is not None and plan.splits is not None
    mean, std = normalization_of(plan.config, backbone)
    device = choose_device(plan.config.device)
    scores = probe_layers(backbone, plan.probe, plan.splits, device=device, mean=mean, std=std)
    first, *others = inspection.records
    return replace(inspection, records=[replace(first, probe=scores), *others])


def analysis_of(plan: AnalysisPlan, found: Sequence[Inspection]) -> Analysis:
    """Put together what was found in all models."""
    config, sample = plan.config, plan.sample
    skipped = [UnreadableImage(as_utf8(skipped.path), as_utf8(skipped.reason)) for skipped in sample.skipped]
    sources = [as_utf8(source) for source in config.images]
    firsts = [(findings.records[0], findings.measured) for findings in found if config.pair]
    return Analysis(
        versions={"unip": __version__, "torch": torch.__version__, "timm": timm.__version__},
        images=ImagesRecord(sources, len(sample.names), sample.of, config.seed, skipped),
        pair=PairRecord([as_utf8(s) for s in config.pair], plan.unpaired) if config.pair else None,
        preprocessing=Preprocessing("squash", not (config.pair and config.pair_colour), config.normalization),
        thresholds=thresholds_of(config),
        models=[record for findings in found for record in findings.records],
        differences=[
            DifferenceRecord(r.model, r.name, r.group, difference(measured["infrared"], measured["visible"]))
            for r, measured in firsts
        ],
    )


def show(record: ModelRecord) -> None:
    """Log what was found in one model."""
    log.info(TableMessage(layer_table(record)))
    log.info(f"{record.name}: {record.choice.reason}")
    warnings = list(record.choice.warnings)
    if record.probe is not None:
        found = (layer.miou for layer in record.probe.layers)
        values = " ".join(percent(math.nan if value is None else value) for value in found)
        best = f"best is layer {record.probe.best_layer}"
        log.info(f"{record.name}: probes reach {values} mIoU, layer by layer; {best}")
        warnings += record.probe.warnings
    for warning in warnings:
        log.warning(f"warning: {warning}")


def write_analysis(
    config: AnalyzeConfig, outputs: OutputFolder, analysis: Analysis, found: Sequence[Inspection], sample: Sample
) -> None:
    """Write the numbers, and on request the pictures and the report."""
    measured = {
        (record.model, record.images): findings.measured[record.images]
        for findings in found
        for record in findings.records
    }
    with writing(config.out / "measures.parquet") as temporary:
        pq.write_table(parquet_table(analysis, measured), temporary)
    write_json(config.out / "analysis.json", analysis.to_dict())
    outputs.remove("report.html")  # of an earlier analysis of other models or images
    if not config.report:
        outputs.remove("figures", "maps")
        log.info(f"wrote {config.out}: analysis.json and measures.parquet")
        return
    with writing(config.out / "maps") as maps:
        maps.mkdir()
        for findings in found:
            for images, picture in findings.sheets.items():
                name = findings.explorer.name + ("" if images == "images" else f"-{images}")
                write_picture(maps / f"{name}.png", picture)
    with writing(config.out / "figures") as figures:
        figures.mkdir()
        for name, figure in analysis_figures(analysis).items():
            write_figure(figures / f"{name}.png", figure)
    examples = [block for findings in found for block in findings.examples]
    page = render_analysis(analysis, examples=examples, explorer=EXPLORER_PLACE if config.explorer else Markup())
    if config.explorer:
        explorer, notes = render_explorer(
            explorer_images(config, sample),
            [findings.explorer for findings in found],
            budget_bytes=REPORT_BYTES - EXPLORER_BYTES - len(page.encode()),
        )
        for note in notes:
            log.warning(note)
        page = page.replace(EXPLORER_PLACE, explorer)
    write_text(config.out / "report.html", page)
    log.info(
        f"wrote {config.out}: report.html, analysis.json, measures.parquet, figures"
        + " and maps" * bool(config.pictures)
    )


def explorer_images(config: AnalyzeConfig, sample: Sample) -> list[ExplorerImage]:
    """Take the images of the report's explorer."""
    chosen = evenly_spaced(len(sample.names), config.explorer)
    shown = {images: frames(squares[EXPLORER_SIDE], chosen) for images, squares in sample.squares.items()}
    return [
        ExplorerImage(as_utf8(Path(sample.names[i]).name), {images: drawn[n] for images, drawn in shown.items()})
        for n, i in enumerate(chosen)
    ]


def as_utf8(name: str) -> str:
    """Return a file name as text that can be written; bytes that are not UTF-8 become a replacement character."""
    return os.fsencode(name).decode("utf-8", "replace")


def short_names(sources: Sequence[str]) -> list[str]:
    """Make the models' names short, fit for file names, and different from each other; ``timm:NAME@FILE`` is NAME."""
    names: list[str] = []
    for source in sources:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", source_name(source)).strip("-.") or "model"
        free = (name for n in itertools.count(1) if (name := plain if n == 1 else f"{plain}--{n}") not in names)
        names.append(next(free))
    return names
