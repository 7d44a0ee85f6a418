"""`unip analyze`: how models attend to images, layer by layer, and which layer to distil."""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import timm
import torch
from markupsafe import Markup

from unip.analysis.config import AnalyzeConfig
from unip.analysis.explorer import ExplorerImage, render_explorer
from unip.analysis.figures import analysis_figures, write_figure, write_picture
from unip.analysis.groups import group_of, source_name
from unip.analysis.inputs import evenly_spaced, frames, image_sets, in_colour, input_side, normalization_of
from unip.analysis.inspection import Inspection, inspect_model
from unip.analysis.records import difference, layer_table, parquet_table
from unip.analysis.report import render_analysis
from unip.analysis.samples import Sample, draw_sample
from unip.errors import UnipError
from unip.features.config import ProbeSettings
from unip.log import TableMessage
from unip.outputs import OutputFolder, write_json, write_text, writing
from unip.runtime.device import choose_device
from unip.segmentation.metrics import percent
from unip.segmentation.probe_data import ProbeData
from unip.segmentation.probing import probe_layers
from unip.version import __version__
from unip.vit.backbone import load_backbone
from unip.vit.shape import check_layer, depth_of

log = logging.getLogger(__name__)

EXPLORER_SIDE = 336  # pixels of the pictures under the explorer's maps
EXPLORER_PLACE = Markup("<!-- explorer -->")
REPORT_BYTES = 24_900_000  # of the whole page: the explorer's maps get what the rest leaves
EXPLORER_BYTES = 500_000  # of the explorer without its maps: pictures and script


@dataclass(frozen=True)
class AnalyzeResult:
    """Where the analysis is and what it says (the content of ``analysis.json``)."""

    out: Path
    analysis: dict[str, Any]


def measure_models(
    config: AnalyzeConfig, outputs: OutputFolder, probe: ProbeSettings | None, splits: ProbeData | None
) -> AnalyzeResult | None:
    """Do what is left of :func:`unip.analysis.verbs.analyze` once the paths are checked.

    Args:
        config: The settings.
        outputs: Where to.
        probe: What the linear probes are trained with, None where there are none.
        splits: The labelled images of the probes, and the name of the split to test on.
    """
    sample = draw_sample(config.images, pair=config.pair, count=config.max_images, seed=config.seed)
    log.info(f"{len(sample.paths)} of {sample.of} {'pairs of images' if config.pair else 'images'}")
    for skipped in sample.skipped:
        log.warning(f"skipped: {as_utf8(skipped.reason)}")
    if sample.unpaired:
        log.warning(f"{sample.unpaired} images have no partner in {', '.join(config.pair)} and are left out")
    if splits is not None:
        train, test, split = splits
        log.info(f"probe: {len(train)} images of {config.probe} to train on, {len(test)} ({split}) to test on")
    backbones = [load_backbone(source) for source in config.models]
    for backbone in backbones:
        log.info(str(backbone.report or f"{backbone.source}: random weights"))
        side = input_side(config, backbone)
        for layer in config.exclude_layers:
            check_layer(backbone.model, layer)
        log.info(f"{backbone.source}: {depth_of(backbone.model)} layers, images resized to squares of {side} px")
    if config.dry_run:
        log.info(f"dry run: would write {config.out}; nothing was written")
        return None

    names = short_names(config.models)
    groups = config.groups or tuple(group_of(source) for source in config.models)
    found: list[Inspection] = []
    failure: UnipError | None = None
    for backbone, name, group in zip(backbones, names, groups, strict=True):
        found.append(inspect_model(config, backbone, {"name": name, "group": group}, sample))
        if probe is not None and failure is None:
            mean, std = normalization_of(config, backbone)
            try:
                probed = probe_layers(backbone, probe, device=choose_device(config.device), mean=mean, std=std)
                found[-1].records[0]["probe"] = probed
            except UnipError as error:  # what was measured is written first
                failure = error
        backbone.model.cpu()  # one model at a time on the device
    analysis: dict[str, Any] = {
        "versions": {"unip": __version__, "torch": torch.__version__, "timm": timm.__version__},
        "images": {
            "sources": [as_utf8(source) for source in config.images],
            "count": len(sample.paths),
            "of": sample.of,
            "seed": config.seed,
            "skipped": [
                {"path": as_utf8(skipped.path), "reason": as_utf8(skipped.reason)} for skipped in sample.skipped
            ],
        },
        "pair": {"sources": [as_utf8(s) for s in config.pair], "unpaired": sample.unpaired} if config.pair else None,
        "preprocessing": {
            "resize": "squash",
            "grey": not (config.pair and config.pair_colour),
            "normalization": config.normalization,
        },
        "thresholds": {
            "local_above": config.local_above,
            "global_below": config.global_below,
            "target_nmi": config.target_nmi,
        },
        "models": [record for findings in found for record in findings.records],
        "differences": [
            {key: findings.records[0][key] for key in ("model", "name", "group")}
            | {"layers": difference(findings.measured["infrared"], findings.measured["visible"])}
            for findings in found
            if config.pair
        ],
    }
    for record in analysis["models"]:
        log.info(TableMessage(layer_table(record)))
        log.info(f"{record['name']}: {record['choice']['reason']}")
        probed = record["probe"]
        if probed is not None:
            found_values = (layer["miou"] for layer in probed["layers"])
            values = " ".join(percent(math.nan if value is None else value) for value in found_values)
            log.info(
                f"{record['name']}: probes reach {values} mIoU, layer by layer; best is layer {probed['best_layer']}"
            )
        for warning in [*record["choice"]["warnings"], *(probed["warnings"] if probed else [])]:
            log.warning(f"warning: {warning}")
    write_analysis(config, outputs, analysis, found, sample)
    if failure is not None:
        raise UnipError(f"the probe failed; everything else was written: {failure.what}", failure.fix)
    return AnalyzeResult(config.out, analysis)


def write_analysis(
    config: AnalyzeConfig, outputs: OutputFolder, analysis: dict[str, Any], found: Sequence[Inspection], sample: Sample
) -> None:
    """Write the numbers, and on request the pictures and the report."""
    measured = {
        (record["model"], record["images"]): findings.measured[record["images"]]
        for findings in found
        for record in findings.records
    }
    with writing(config.out / "measures.parquet") as temporary:
        pq.write_table(parquet_table(analysis, measured), temporary)
    write_json(config.out / "analysis.json", analysis)
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
    """Read the images of the report's explorer."""
    chosen = evenly_spaced(len(sample.paths), config.explorer)
    shown = {
        images: frames(paths, chosen, EXPLORER_SIDE, colour=in_colour(config, images))
        for images, paths in image_sets(sample).items()
    }
    return [
        ExplorerImage(as_utf8(Path(sample.paths[i]).name), {images: drawn[n] for images, drawn in shown.items()})
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
