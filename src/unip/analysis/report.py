"""The analysis as one self-contained HTML page: the layer to distil, patterns, explorer, maps, measures, probes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.figure import Figure

from unip.analysis.figures import analysis_figures, has_measure, record_label
from unip.analysis.records import Analysis, ModelRecord, NoLayer
from unip.analysis.style import PATTERN_COLOURS
from unip.analysis.svg import inline_svg
from unip.attention.measuring import MEASURES
from unip.pages import data_uri, page_template
from unip.segmentation.probing import LayerProbes

Pixels = npt.NDArray[np.uint8]
MAP_WIDTH = 224  # pixels

#: How to read each measure, and where it comes from.
MEASURE_HELP = {
    "nmi": (
        "Normalised mutual information of query and key positions: 1 where each query attends to a place of its own, "
        "0 where all attend the same way; hybrid layers lie near the target (Zhang et al., UNIP, ICLR 2025)."
    ),
    "distance": (
        "How far, on average, a patch's attention reaches over the image: short where it looks around itself, long "
        "where it looks everywhere (Dosovitskiy et al., ICLR 2021)."
    ),
    "entropy": (
        "How widely a query spreads its attention (Shannon): 0 when one token gets all of it, log L when all of the L "
        "tokens get the same."
    ),
    "class_share": (
        "Share of a patch's attention that goes to the class token rather than to patches; where it is high, patches "
        "read the summary of the image instead of each other."
    ),
    "register_share": (
        "Share of a patch's attention that goes to the register tokens, which take the place of patches that a model "
        "would otherwise use as scratch paper (Darcet et al., ICLR 2024)."
    ),
    "high_frequency": (
        "How strong the features' finest detail is against their mean, as a difference of logarithms: higher means "
        "more texture, lower more shape; infrared images have little texture (Park et al., ICLR 2023)."
    ),
}
NORMALIZATION = {"model": "each model's own mean and deviation", "imagenet": "ImageNet's", "infmix": "InfMix's"}


@dataclass(frozen=True)
class ExampleMaps:
    """What some query tokens of one image attend to in some layers of one model.

    Attributes:
        title: Model and image.
        columns: What stands in each column: "image", "layer 3 (local)", ...
        rows: The query token's name and a picture, uint8 RGB (H, W, 3), for each column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Pixels, ...]], ...]


def render_analysis(
    analysis: Analysis, *, examples: Sequence[ExampleMaps], explorer: Markup, notes: Sequence[str] = ()
) -> str:
    """Return the page. It needs no network and shows only the sections that the analysis has something for.

    Args:
        analysis: What `unip analyze` found.
        examples: Maps to show.
        explorer: The interactive part, placed as it is; empty leaves it out.
        notes: What the reader should know about this analysis.
    """
    records = analysis.models
    figures = analysis_figures(analysis)
    svgs = {name: _svg(name, figure, records) for name, figure in figures.items()}
    first = {record.name: record for record in reversed(records)}  # the infrared one of a pair
    measures = [name for name in figures if name in MEASURES]
    return page_template("unip.analysis", "report.html.j2").render(
        analysis=analysis,
        models=[first[name] for name in dict.fromkeys(record.name for record in records)],
        notes=list(notes),
        normalization=NORMALIZATION[analysis.preprocessing.normalization],
        choices=[_choice(record, records) for record in records if record is first[record.name]],
        patterns=svgs["patterns"],
        pattern_colours=PATTERN_COLOURS,
        explorer=explorer,
        examples=[
            {
                "title": example.title,
                "columns": example.columns,
                "rows": [(label, [data_uri(picture, MAP_WIDTH) for picture in row]) for label, row in example.rows],
            }
            for example in examples
        ],
        measures=[(MEASURES[name], _measure_help(name), svgs[name]) for name in measures],
        ckas=[(svg, _largest_std(records[int(name[4:]) - 1])) for name, svg in svgs.items() if name.startswith("cka-")],
        differences=[svg for name, svg in svgs.items() if name.startswith("difference-")],
        probe=svgs.get("probe"),
        probes=[_probe(record, record.probe) for record in records if record.probe],
        numbers=[_numbers(record) for record in records],
    )


def _measure_help(name: str) -> str:
    return MEASURE_HELP[name if name in MEASURE_HELP else name.removesuffix("_share")]


def _svg(name: str, figure: Figure, records: Sequence[ModelRecord]) -> Markup:
    """A figure as SVG, with a label for those who cannot see it."""
    if name in MEASURES:  # the page has a heading of its own for it
        figure.axes[0].set_title("")
    kind, _, what = name.partition("-")
    label = {
        "patterns": "Pattern of every layer of every model",
        "cka": f"CKA between layers of {record_label(records[int(what) - 1])}" if kind == "cka" else "",
        "difference": f"Visible minus infrared: {MEASURES.get(what, '')} by layer",
        "probe": "mIoU of a linear probe on each layer, and the layer's NMI",
    }.get(kind) or f"{MEASURES[name]} by layer"
    return Markup(inline_svg(figure, name=f"figure-{name}", label=label))


def _choice(record: ModelRecord, records: Sequence[ModelRecord]) -> dict[str, Any]:
    """What a model's card says: the layer to distil, how clear the choice is, and what to mind."""
    choice, layers = record.choice, record.layers
    warnings = list(choice.warnings)
    if not any(layer.pattern == "hybrid" for layer in layers):
        if not any("no layer is hybrid" in warning for warning in warnings):
            warnings.insert(0, "no layer is hybrid")
    facts = {}
    if not isinstance(choice, NoLayer):
        facts["NMI"] = f"{_number(layers[choice.layer - 1].measures['nmi'].mean)} (target {choice.target:g})"
        facts["NMI peak"] = f"layer {choice.peak}"
        if choice.runner_up is not None:
            nmi = layers[choice.runner_up - 1].measures["nmi"].mean
            facts["runner-up"] = f"layer {choice.runner_up}, NMI {_number(nmi)}"
            facts["margin"] = f"{choice.margin:.3f} nearer to the target"
        if choice.excluded:
            facts["excluded"] = "layers " + ", ".join(map(str, choice.excluded))
    for other in records:  # the same model on the visible images of the pairs
        if other is not record and other.name == record.name:
            layer = other.choice.layer
            facts[f"on {other.images} images"] = "no layer" if layer is None else f"layer {layer}"
    return {
        "name": record.name,
        "group": record.group,
        "layer": choice.layer,
        "depth": len(layers),
        "pattern": None if choice.layer is None else layers[choice.layer - 1].pattern,
        "facts": facts,
        "reason": choice.reason if choice.layer is None else "",  # else the facts say it
        "warnings": warnings,
    }


def _largest_std(record: ModelRecord) -> str:
    """Largest deviation over images of a model's CKA."""
    stds = [value for row in record.cka_std for value in row if value is not None]
    return _number(max(stds, default=None))


def _probe(record: ModelRecord, probe: LayerProbes) -> dict[str, Any]:
    """A model's table of probes."""
    rows = [
        {
            "layer": layer.layer,
            "best": layer.layer == probe.best_layer,
            "chosen": layer.layer == record.choice.layer,
            "pattern": layer.pattern,
            "nmi": _number(layer.measures["nmi"].mean),
            "scores": [_percent(value) for value in (found.miou, found.foreground_miou, *found.iou)],
        }
        for layer, found in zip(record.layers, probe.layers, strict=True)
    ]
    return {"name": record.name, "probe": probe, "rows": rows}


def _numbers(record: ModelRecord) -> dict[str, Any]:
    """A record's table: each measure's mean and deviation over images, and the range of its heads."""
    names = [name for name in MEASURES if has_measure(record, name)]
    rows = []
    for layer in record.layers:
        cells = []
        for name in names:
            value = layer.measures[name]
            heads = [head for head in value.per_head if head is not None]
            spread = "" if value.std is None else f" ± {_number(value.std)}"
            cells.append(
                (_number(value.mean) + spread, f"{_number(min(heads))} to {_number(max(heads))}" if heads else "")
            )
        rows.append(
            {
                "layer": layer.layer,
                "pattern": layer.pattern,
                "chosen": layer.layer == record.choice.layer,
                "cells": cells,
            }
        )
    return {"label": record_label(record), "columns": [MEASURES[name] for name in names], "rows": rows}


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}".replace("-", "−")


def _percent(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}"
