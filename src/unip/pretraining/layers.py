"""Which layers of which teachers are distilled: as given, or measured on the data's infrared images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from unip.attention.measuring import measure_nmi
from unip.attention.patterns import LayerChoice, choose_hybrid_layer, name_patterns
from unip.data.sampling.pretraining_crops import read_row_squares, sample_indices
from unip.errors import UnipError
from unip.pretraining.config import PretrainConfig
from unip.pretraining.inputs import normalise_grey, resize_to
from unip.pretraining.teachers import Target
from unip.vit.backbone import Backbone
from unip.vit.shape import check_layer, patch_size


def resolve_layers(
    config: PretrainConfig,
    teachers: Mapping[str, Backbone],
    table: pa.Table,
    *,
    patch: int,
    known: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Find the layer of each teacher, and say how it was found.

    Args:
        config: Of the run.
        teachers: By source.
        table: The manifest.
        patch: Side of the student's patches, in pixels.
        known: What the run found when it started, if it is continued: nothing is measured a second time.

    Returns:
        JSON values for each teacher: source, hash of the weights, layer, weight, and what was measured.

    Raises:
        UnipError: A layer is out of range or given twice, or there is no infrared image to measure.
    """
    found: list[dict[str, Any]] = []
    for number, (source, layer, weight, zoom) in enumerate(config.targets()):
        backbone = teachers[source]
        before = known[number] if number < len(known) else {}
        if (before.get("source"), before.get("weight"), before.get("zoom")) == (source, weight, zoom) and layer in (
            "auto",
            before["layer"],
        ):
            found.append(before)
            continue
        if layer != "auto":
            check_layer(backbone.model, layer)
            choice = {"layer": layer, "lines": [f"layer {layer}, as given"]}
        else:
            choice = _measured(config, backbone, table, patch)
        digest = backbone.report.sha256 if backbone.report else None
        record = {"source": source, "sha256": digest, "weight": weight, "zoom": zoom, **choice}
        if any((other["source"], other["layer"], other["zoom"]) == (source, record["layer"], zoom) for other in found):
            raise UnipError(
                f"layer {record['layer']} of {source} is distilled twice",
                "Give a teacher that is named twice different layers (--teacher-layer) or zooms (--teacher-zoom).",
            )
        found.append(record)
    return found


def make_targets(records: list[dict[str, Any]], teachers: Mapping[str, Backbone]) -> list[Target]:
    """Turn what :func:`resolve_layers` found into what is distilled; each target gets a short name of its own."""
    names: list[str] = []
    for record in records:
        name = f"{short_name(record['source'])}-{record['layer']}" + f"-x{record['zoom']}" * (record["zoom"] > 1)
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return [
        Target(teachers[record["source"]].model, record["layer"], record["weight"], name, record["zoom"])
        for record, name in zip(records, names, strict=True)
    ]


def short_name(source: str) -> str:
    """Return what a teacher is called in logs and pictures: its timm or hub name, or its file's or run's."""
    kind, colon, name = source.partition(":")
    if colon and kind in ("timm", "hf"):
        return name.partition("@")[0].rpartition("/")[2]
    path = Path(source)
    if path.suffix in (".safetensors", ".pth", ".pt", ".bin"):
        return path.stem
    return path.parent.name if path.name == "model" else path.name


def _measured(config: PretrainConfig, teacher: Backbone, table: pa.Table, patch: int) -> dict[str, Any]:
    if "infrared" not in table["modality"].to_pylist():
        raise UnipError(
            "teacher_layer auto needs infrared images, and the data has none",
            "Give the layer as a number, or mark a folder as infrared=FOLDER.",
        )
    indices = sample_indices(table, "infrared", config.probe_images, config.seed)
    found = measure_nmi(teacher.model, _whole_images(table, indices, teacher, config.size, patch))
    values = [found[layer].mean().item() for layer in sorted(found)]
    choice = choose_hybrid_layer(values, target=config.target_nmi, exclude=config.exclude_layers)
    return _described(choice, values, len(indices))


def _described(choice: LayerChoice, values: list[float], images: int) -> dict[str, Any]:
    patterns = name_patterns(values)
    lines = [f"layer {n:2d}  NMI {v:.3f}  {p}" for n, (v, p) in enumerate(zip(values, patterns, strict=True), start=1)]
    lines += [f"chosen on {images} infrared images: {choice.reason}", *(f"warning: {w}" for w in choice.warnings)]
    return {**choice.as_json(), "images": images, "nmi": values, "patterns": patterns, "lines": lines}


def _whole_images(
    table: pa.Table, indices: list[int], teacher: Backbone, size: int, patch: int
) -> Iterator[torch.Tensor]:
    """Yield whole images resized to squares of the crop size, as the teacher will see them in distillation."""
    side = size // patch * patch_size(teacher.model)
    device = next(teacher.model.parameters()).device
    for first in range(0, len(indices), 32):
        images = read_row_squares(table, indices[first : first + 32], size)
        yield resize_to(normalise_grey(images.to(device)), side)
