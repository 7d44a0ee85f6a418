"""What was measured as plain values: the records of ``analysis.json`` and the rows of ``measures.parquet``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from rich.table import Table
from torch import Tensor

from unip.attention.measuring import ModelMeasures
from unip.attention.patterns import NoHybridLayer, choose_hybrid_layer, name_patterns

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


def layer_records(measured: ModelMeasures, patterns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Average over images: one record a layer, with every measure's mean, deviation over images and mean per head."""
    records = []
    for layer, values in sorted(measured.layers.items()):
        named = {name: _summary(heads.mean(1), heads) for name, heads in values.heads.items()}
        named |= {name: _summary(images, None) for name, images in values.features.items()}
        heads = next(iter(values.heads.values())).shape[1]
        pattern = {"pattern": patterns[layer - 1]} if patterns else {}
        records.append({"layer": layer, "heads": heads, **pattern, "measures": named})
    return records


def model_record(
    measured: ModelMeasures,
    about: Mapping[str, Any],
    *,
    target: float,
    local_above: float,
    global_below: float,
    exclude: Sequence[int],
) -> dict[str, Any]:
    """Put one model's measures on one set of images into a record, patterns and choice of the layer with it.

    Args:
        measured: What :func:`unip.attention.measuring.measure_layers` returned.
        about: What identifies model and images; taken into the record as it is.
        target: NMI of a hybrid layer.
        local_above: Layers with a higher NMI are local.
        global_below: Layers after the peak with a lower NMI are global.
        exclude: Layers not to choose.
    """
    nmi = [values.heads["nmi"].mean().item() for _, values in sorted(measured.layers.items())]
    bands = {"local_above": local_above, "global_below": global_below}
    patterns = name_patterns(nmi, **bands)
    try:
        choice = choose_hybrid_layer(nmi, target=target, exclude=exclude, **bands).as_json()
    except NoHybridLayer as error:  # that a model stays local is a finding, not a failure
        none = [] if "hybrid" in patterns else ["no layer is hybrid"]
        choice = {"layer": None, "reason": error.what, "warnings": none}
    images = len(measured.cka)
    if images < FEW_IMAGES:
        choice["warnings"] = [
            *choice["warnings"],
            f"measured on {images} image{'s' * (images > 1)} only: other images may lead to another layer",
        ]
    return {
        **about,
        "layers": layer_records(measured, patterns),
        "cka": _matrix(measured.cka.nanmean(0)),
        "cka_std": _matrix((measured.cka - measured.cka.nanmean(0)).square().nanmean(0).sqrt()),
        "choice": choice,
        "probe": None,
    }


def difference(infrared: ModelMeasures, visible: ModelMeasures) -> list[dict[str, Any]]:
    """Average the differences between the two images of each pair, visible minus infrared; one record a layer."""
    layers = {}
    for layer, values in infrared.layers.items():
        other = visible.layers[layer]
        layers[layer] = type(values)(
            {name: other.heads[name] - heads for name, heads in values.heads.items()},
            {name: other.features[name] - images for name, images in values.features.items()},
        )
    return layer_records(ModelMeasures(layers, visible.cka - infrared.cka))


def parquet_table(analysis: Mapping[str, Any], spreads: Mapping[tuple[str, str], ModelMeasures]) -> Any:
    """Return all measures in long form, one row for each model, images, layer, head and measure.

    Args:
        analysis: The whole analysis.
        spreads: What was measured, by model and images, for the deviations of single heads.
    """
    rows = []
    for record in analysis["models"]:
        about = {key: record[key] for key in ("model", "group", "images")}
        measured = spreads[record["model"], record["images"]]
        for layer in record["layers"]:
            for name, value in layer["measures"].items():
                place = {**about, "layer": layer["layer"], "measure": name}
                rows.append({**place, "head": None, "mean": value["mean"], "std": value["std"]})
                heads = measured.layers[layer["layer"]].heads.get(name)
                for head in range(0 if heads is None else heads.shape[1]):
                    found = _summary(heads[:, head], None)  # type: ignore[index]
                    rows.append({**place, "head": head + 1, "mean": found["mean"], "std": found["std"]})
    for changed in analysis["differences"]:
        about = {"model": changed["model"], "group": changed["group"], "images": "visible - infrared"}
        for layer in changed["layers"]:
            for name, value in layer["measures"].items():
                place = {**about, "layer": layer["layer"], "measure": name}
                rows.append({**place, "head": None, "mean": value["mean"], "std": value["std"]})
    return pa.Table.from_pylist(rows, schema=PARQUET_SCHEMA)


def layer_table(record: Mapping[str, Any]) -> Table:
    """A model's layers as a table for the terminal."""
    images = "" if record["images"] == "images" else f", {record['images']}"
    table = Table(title=f"{record['name']}{images}")
    for heading in ("layer", "NMI", "± images", "heads min–max", "distance", "entropy", "pattern"):
        table.add_column(heading, justify="left" if heading == "pattern" else "right")
    for layer in record["layers"]:
        nmi, distance, entropy = (layer["measures"][name] for name in ("nmi", "distance", "entropy"))
        chosen = "  ← distil" if layer["layer"] == record["choice"]["layer"] else ""
        table.add_row(
            str(layer["layer"]),
            f"{nmi['mean']:.3f}",
            f"{nmi['std']:.3f}",
            f"{min(nmi['per_head']):.3f}–{max(nmi['per_head']):.3f}",
            "-" if distance["mean"] is None else f"{distance['mean']:.1f}",
            f"{entropy['mean']:.2f}",
            layer["pattern"] + chosen,
        )
    return table


def _summary(images: Tensor, heads: Tensor | None) -> dict[str, Any]:
    """Mean and deviation over images (N,) and the means per head of (N, H); None where there is no finite value."""
    known = images[images.isfinite()]
    found: dict[str, Any] = {"mean": None, "std": None}
    if len(known):
        found = {"mean": known.mean().item(), "std": known.std(correction=0).item()}
    found["per_head"] = [] if heads is None else [_json(v) for v in heads.nanmean(0).tolist()]
    return found


def _matrix(values: Tensor) -> list[list[float | None]]:
    return [[_json(value) for value in row] for row in torch.Tensor.tolist(values)]


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
