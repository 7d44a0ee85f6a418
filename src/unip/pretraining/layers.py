"""Which layers of which teachers are distilled: as given, or measured on the data's infrared images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch

from unip.attention.measuring import measure_nmi
from unip.attention.patterns import Pattern, choose_hybrid_layer, name_patterns
from unip.config import Config
from unip.data.sampling.pretraining_crops import Squares, sample_indices
from unip.errors import UnipError
from unip.pretraining.config import PretrainConfig
from unip.pretraining.inputs import normalise_grey, resize_to
from unip.pretraining.measured import keep_measurement, measurement_path, read_measurement
from unip.pretraining.teachers import Target
from unip.vit.backbone import Backbone
from unip.vit.shape import check_layer, depth_of, patch_size
from unip.vit.sources import parse_source


class TeacherLayer(Config):
    """A teacher's layer that is distilled, and how it was found: an entry of teacher.json.

    Attributes:
        source: As in the settings.
        sha256: Of the weights; None for random ones.
        weight: Of its loss.
        zoom: How many times enlarged the teacher sees the images.
        layer: 1-based.
        nmi: Of each layer, if they were measured; only then the following are given, up to ``patterns``.
        target: The NMI that was looked for; this and the next as in :class:`unip.attention.patterns.LayerChoice`.
        peak: Layer of the highest NMI.
        runner_up: The next nearest layer.
        margin: How much nearer the chosen one is, in NMI.
        excluded: Layers that were left out.
        warnings: What to know before relying on the choice.
        reason: Of the choice.
        images: How many were measured.
        patterns: Of each layer.
        lines: All that in words.
    """

    source: str
    sha256: str | None
    weight: float
    zoom: int
    layer: int
    nmi: tuple[float, ...] = ()
    target: float | None = None
    peak: int | None = None
    runner_up: int | None = None
    margin: float | None = None
    excluded: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    reason: str = ""
    images: int = 0
    patterns: tuple[Pattern, ...] = ()
    lines: tuple[str, ...]


def resolve_layers(
    config: PretrainConfig,
    teachers: Mapping[str, Backbone],
    images: Squares,
    *,
    patch: int,
    known: list[TeacherLayer],
) -> list[TeacherLayer]:
    """Find the layer of each teacher, and say how it was found.

    Args:
        config: Of the run.
        teachers: By source.
        images: The images of the data, in the size of the crops.
        patch: Side of the student's patches, in pixels.
        known: What the run found when it started, if it is continued: nothing is measured a second time.

    Raises:
        UnipError: A layer is out of range or given twice, or there is no infrared image to measure.
    """
    found: list[TeacherLayer] = []
    for number, (source, layer, weight, zoom) in enumerate(config.targets()):
        backbone = teachers[source]
        before = known[number] if number < len(known) else None
        if (
            before is not None
            and (before.source, before.weight, before.zoom) == (source, weight, zoom)
            and layer in ("auto", before.layer)
        ):
            found.append(before)
            continue
        digest = backbone.report.sha256 if backbone.report else None
        make = partial(TeacherLayer, source=source, sha256=digest, weight=weight, zoom=zoom)
        if layer != "auto":
            check_layer(backbone.model, layer)
            record = make(layer=layer, lines=(f"layer {layer}, as given",))
        else:
            record = _measured(make, config, backbone, images, patch)
        if any((other.source, other.layer, other.zoom) == (source, record.layer, zoom) for other in found):
            raise UnipError(
                f"layer {record.layer} of {source} is distilled twice",
                "Give a teacher that is named twice different layers (--teacher-layer) or zooms (--teacher-zoom).",
            )
        found.append(record)
    return found


def make_targets(layers: list[TeacherLayer], teachers: Mapping[str, Backbone]) -> list[Target]:
    """Turn what :func:`resolve_layers` found into what is distilled; each target gets a short name of its own."""
    names: list[str] = []
    for found in layers:
        name = f"{short_name(found.source)}-{found.layer}" + f"-x{found.zoom}" * (found.zoom > 1)
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return [
        Target(teachers[found.source].model, found.layer, found.weight, name, found.zoom)
        for found, name in zip(layers, names, strict=True)
    ]


def short_name(source: str) -> str:
    """Return what a teacher is called in logs and pictures: its timm or hub name, or its file's or run's."""
    found = parse_source(source)
    if found.name:
        return found.name.rpartition("/")[2]
    path = Path(source)
    if path.suffix in (".safetensors", ".pth", ".pt", ".bin"):
        return path.stem
    return path.parent.name if path.name == "model" else path.name


def _measured(
    make: Callable[..., TeacherLayer], config: PretrainConfig, teacher: Backbone, images: Squares, patch: int
) -> TeacherLayer:
    if "infrared" not in images.table["modality"].to_pylist():
        raise UnipError(
            "teacher_layer auto needs infrared images, and the data has none",
            "Give the layer as a number, or mark a folder as infrared=FOLDER.",
        )
    indices = sample_indices(images.table, "infrared", config.probe_images, config.seed)
    values = _nmi(teacher, images, indices, images.size // patch * patch_size(teacher.model))
    choice = choose_hybrid_layer(values, target=config.target_nmi, exclude=config.exclude_layers)
    patterns = name_patterns(values)
    lines = [f"layer {n:2d}  NMI {v:.3f}  {p}" for n, (v, p) in enumerate(zip(values, patterns, strict=True), start=1)]
    lines += [f"chosen on {len(indices)} infrared images: {choice.reason}", *(f"warning: {w}" for w in choice.warnings)]
    return make(**choice.as_json() | {"nmi": values}, images=len(indices), patterns=patterns, lines=lines)


def _nmi(teacher: Backbone, images: Squares, indices: list[int], side: int) -> list[float]:
    """Return the NMI of each layer on whole images, resized to squares of the size that distillation will show."""
    batches = (images.read(indices[first : first + 32]) for first in range(0, len(indices), 32))
    kept = measurement_path(teacher, batches, side)
    if values := read_measurement(kept, depth_of(teacher.model)):
        return values
    found = measure_nmi(teacher.model, _whole_images(images, indices, teacher, side))
    values = [found[layer].mean().item() for layer in sorted(found)]
    keep_measurement(kept, values)
    return values


def _whole_images(images: Squares, indices: list[int], teacher: Backbone, side: int) -> Iterator[torch.Tensor]:
    """Yield whole images, 32 at a time, as the teacher will see them in distillation."""
    device = next(teacher.model.parameters()).device
    for first in range(0, len(indices), 32):
        squares = images.read(indices[first : first + 32])
        yield resize_to(normalise_grey(squares.to(device)), side)
