"""Measures averaged over images: records, the rows of ``measures.parquet``, a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from rich.table import Table
from torch import Tensor

from unip.analysis.records import (
    AnalysedModel,
    Analysis,
    LayerDifference,
    LayerRecord,
    ModelRecord,
    NoLayer,
    Summary,
    Thresholds,
)
from unip.attention.measuring import LayerMeasures, ModelMeasures
from unip.attention.patterns import LayerChoice, NoHybridLayer, choose_hybrid_layer, name_patterns

FEW_IMAGES = 32  # the choice on fewer is warned about
PARQUET_SCHEMA: Any = pa.schema(
    [
        ("model", pa.string()),
        ("group", pa.string()),
        ("images", pa.string()),
        ("layer", pa.int32()),
        ("head", pa.int32()),  # from 1; null: the mean over heads, or a measure of features
        ("measure", pa.string()),
        ("mean", pa.float64()),
        ("std", pa.float64()),  # over images
    ]
)


def model_record(
    measured: ModelMeasures, about: AnalysedModel, images: str, thresholds: Thresholds, exclude: Sequence[int] = ()
) -> ModelRecord:
    """Average one model's measures over one set of images, name patterns and choose the layer.

    Args:
        measured: What :func:`unip.attention.measuring.measure_layers` returned.
        about: The model.
        images: Name of the set of images.
        thresholds: For patterns and choice.
        exclude: Layers not to choose.
    """
    layers = sorted(measured.layers.items())
    nmi = [values.heads["nmi"].mean().item() for _, values in layers]
    bands = {"local_above": thresholds.local_above, "global_below": thresholds.global_below}
    patterns = name_patterns(nmi, **bands)
    count = len(measured.cka)
    few = f"measured on {count} image{'s' * (count > 1)} only: other images may lead to another layer"
    also = (few,) * (count < FEW_IMAGES)
    choice: LayerChoice | NoLayer
    try:
        choice = choose_hybrid_layer(nmi, target=thresholds.target_nmi, exclude=exclude, **bands)
        choice = replace(choice, warnings=choice.warnings + also)
    except NoHybridLayer as error:
        none = ("no layer is hybrid",) * ("hybrid" not in patterns)
        choice = NoLayer(None, error.what, none + also)
    mean = measured.cka.nanmean(0)
    return ModelRecord(
        **vars(about),
        images=images,
        layers=[
            LayerRecord(layer, _heads(values), pattern, _summaries(values))
            for (layer, values), pattern in zip(layers, patterns, strict=True)
        ],
        cka=_matrix(mean),
        cka_std=_matrix((measured.cka - mean).square().nanmean(0).sqrt()),
        choice=choice,
    )


def difference(infrared: ModelMeasures, visible: ModelMeasures) -> list[LayerDifference]:
    """Average the differences between the two images of each pair, visible minus infrared."""
    found = []
    for layer, values in sorted(infrared.layers.items()):
        other = visible.layers[layer]
        changes = LayerMeasures(
            {name: other.heads[name] - heads for name, heads in values.heads.items()},
            {name: other.features[name] - images for name, images in values.features.items()},
        )
        found.append(LayerDifference(layer, _heads(changes), _summaries(changes)))
    return found


def parquet_table(analysis: Analysis, spreads: Mapping[tuple[str, str], ModelMeasures]) -> Any:
    """Return all measures in long form, one row for each model, images, layer, head and measure.

    Args:
        analysis: The whole analysis.
        spreads: What was measured, by model and images, for the deviations of single heads.
    """
    rows: list[tuple[Any, ...]] = []  # in the order of the schema
    for record in analysis.models:
        measured = spreads[record.model, record.images]
        for layer in record.layers:
            for name, value in layer.measures.items():
                place = record.model, record.group, record.images, layer.layer
                rows.append((*place, None, name, value.mean, value.std))
                heads = measured.layers[layer.layer].heads.get(name)
                for head in range(0 if heads is None else heads.shape[1]):
                    found = _summary(heads[:, head], None)  # type: ignore[index]
                    rows.append((*place, head + 1, name, found.mean, found.std))
    for changed in analysis.differences:
        for change in changed.layers:
            place = changed.model, changed.group, "visible - infrared", change.layer
            rows += [(*place, None, name, value.mean, value.std) for name, value in change.measures.items()]
    return pa.table(list(map(list, zip(*rows, strict=True))), schema=PARQUET_SCHEMA)


def layer_table(record: ModelRecord) -> Table:
    """A model's layers as a table for the terminal."""
    images = "" if record.images == "images" else f", {record.images}"
    table = Table(title=f"{record.name}{images}")
    for heading in ("layer", "NMI", "± images", "heads min–max", "distance", "entropy", "pattern"):
        table.add_column(heading, justify="left" if heading == "pattern" else "right")
    for layer in record.layers:
        nmi, distance, entropy = (layer.measures[name] for name in ("nmi", "distance", "entropy"))
        heads = [head for head in nmi.per_head if head is not None]
        chosen = "  ← distil" if layer.layer == record.choice.layer else ""
        table.add_row(
            str(layer.layer),
            f"{nmi.mean:.3f}",
            f"{nmi.std:.3f}",
            f"{min(heads):.3f}–{max(heads):.3f}",
            "-" if distance.mean is None else f"{distance.mean:.1f}",
            f"{entropy.mean:.2f}",
            layer.pattern + chosen,
        )
    return table


def _heads(values: LayerMeasures) -> int:
    return next(iter(values.heads.values())).shape[1]


def _summaries(values: LayerMeasures) -> dict[str, Summary]:
    """Average over images."""
    found = {name: _summary(heads.mean(1), heads) for name, heads in values.heads.items()}
    return found | {name: _summary(images, None) for name, images in values.features.items()}


def _summary(images: Tensor, heads: Tensor | None) -> Summary:
    """Mean and deviation over images (N,) and the means per head of (N, H); None where there is no finite value."""
    known = images[images.isfinite()]
    per_head = [] if heads is None else [_json(v) for v in heads.nanmean(0).tolist()]
    if not len(known):
        return Summary(None, None, per_head)
    return Summary(known.mean().item(), known.std(correction=0).item(), per_head)


def _matrix(values: Tensor) -> list[list[float | None]]:
    return [[_json(value) for value in row] for row in values.tolist()]


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
