"""Analysis of one model: measures, example maps and maps for the explorer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from unip.analysis.config import AnalyzeConfig
from unip.analysis.examples import example_maps, example_rows, grid_of
from unip.analysis.explorer import ExplorerModel, explorer_grid, explorer_maps
from unip.analysis.groups import Group
from unip.analysis.inputs import evenly_spaced, frames, input_side, model_input
from unip.analysis.records import AnalysedModel, ModelRecord, Thresholds
from unip.analysis.report import ExampleMaps
from unip.analysis.samples import Sample
from unip.analysis.summaries import model_record
from unip.attention.measuring import ModelMeasures, measure_layers
from unip.attention.pictures import Picture, example_queries, query_sheet
from unip.errors import UnipError
from unip.progress import meter
from unip.runtime.device import choose_device
from unip.vit.backbone import Backbone
from unip.vit.shape import class_tokens, prefix_tokens


@dataclass(frozen=True)
class Inspection:
    """What the analysis of one model found."""

    records: list[ModelRecord]
    measured: dict[str, ModelMeasures]  # by images
    sheets: dict[str, Picture]  # by images
    examples: list[ExampleMaps]
    explorer: ExplorerModel


def inspect_model(config: AnalyzeConfig, backbone: Backbone, name: str, group: Group, sample: Sample) -> Inspection:
    """Measure one model on the images (and their partners), and draw its maps.

    Raises:
        UnipError: The device's memory is too small, or a layer's attention is not finite.
    """
    try:
        return _inspect_model(config, backbone, name, group, sample)
    except torch.OutOfMemoryError as error:
        side = input_side(config, backbone)
        raise UnipError(
            f"the device ran out of memory with {config.batch_size} images of {side} px at a time",
            "Lower --batch-size or --size, or use --device cpu.",
        ) from error


def _inspect_model(config: AnalyzeConfig, backbone: Backbone, name: str, group: Group, sample: Sample) -> Inspection:
    model = backbone.model.to(choose_device(config.device)).eval()
    side = input_side(config, backbone)
    classes = class_tokens(model)
    about = AnalysedModel(
        model=backbone.source,
        name=name,
        group=group,
        sha256=backbone.report.sha256 if backbone.report else None,
        input_size=side,
        grid=grid_of(model, side),
        class_token=classes > 0,
        registers=prefix_tokens(model) - classes,
    )
    thresholds = thresholds_of(config)
    records, measured, sheets, examples, maps = [], {}, {}, [], {}
    firsts = next(iter(sample.squares.values()))[side]  # infrared, where there are pairs
    for images, by_side in sample.squares.items():
        squares = by_side[side]
        measured[images] = measure_images(config, backbone, name, squares, images)
        record = model_record(measured[images], about, images, thresholds, config.exclude_layers)
        records.append(record)
        if chosen := evenly_spaced(len(squares), config.pictures if config.report else 0):
            # the same queries on both images of a pair: where the infrared one is hot and cold
            queries = [example_queries(frame, about.grid) for frame in frames(firsts, chosen)]
            rows = example_rows(model, model_input(config, backbone, [squares[i] for i in chosen]), queries)
            pictures = frames(squares, chosen)
            sheets[images] = query_sheet(pictures, queries, {f"layer {n}": values for n, values in rows.items()})
            examples += example_maps(record, pictures, queries, rows)
        if chosen := evenly_spaced(len(squares), config.explorer if config.report else 0):
            maps[images] = explorer_maps(model, model_input(config, backbone, [squares[i] for i in chosen]))
    explorer = ExplorerModel(
        name=name,
        group=group,
        grid=explorer_grid(about.grid),
        class_token=about.class_token,
        registers=about.registers,
        heads=[layer.heads for layer in records[0].layers],
        patterns=[layer.pattern for layer in records[0].layers],
        chosen=records[0].choice.layer,
        maps=maps,
    )
    return Inspection(records, measured, sheets, examples, explorer)


def measure_images(
    config: AnalyzeConfig, backbone: Backbone, name: str, squares: Sequence[torch.Tensor], images: str
) -> ModelMeasures:
    """Measure all layers of one model on one set of images, with progress."""

    def batches() -> Iterator[torch.Tensor]:
        for first in range(0, len(squares), config.batch_size):
            part = squares[first : first + config.batch_size]
            yield model_input(config, backbone, part)
            progress.advance(len(part))

    with meter(f"measuring {name} on {images}", len(squares), "images") as progress:
        return measure_layers(backbone.model, batches())


def thresholds_of(config: AnalyzeConfig) -> Thresholds:
    """Return the thresholds that the settings ask for."""
    return Thresholds(config.local_above, config.global_below, config.target_nmi)
