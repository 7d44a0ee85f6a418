"""`unip analyze`: how models attend to images, layer by layer, and which layer to distil."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from rich.table import Table

from unip.attention.capture import attention_map, visiting
from unip.attention.measuring import measure_nmi
from unip.attention.patterns import (
    GLOBAL_BELOW,
    HYBRID_NMI,
    LOCAL_ABOVE,
    NoHybridLayer,
    choose_hybrid_layer,
    name_patterns,
)
from unip.attention.pictures import Picture, attention_picture, example_queries, patch_rows, sheet
from unip.config import Config, verb
from unip.data.manifest import open_images, summary, summary_table
from unip.data.mix import sample_indices, squashed
from unip.data.transforms import IMAGENET_MEAN, IMAGENET_STD, INFMIX_MEAN, INFMIX_STD
from unip.errors import UnipError
from unip.files import write_json
from unip.lab.plots import plot_nmi, write_figure, write_picture
from unip.progress import meter, say
from unip.segment.inference import Device, choose_device
from unip.vit.backbone import Backbone, load_backbone
from unip.vit.shape import check_layer, depth_of, patch_size


class AnalyzeConfig(Config):
    """Which models to look into, on which images, and how the images are shown to them."""

    models: tuple[str, ...] = Field(
        min_length=1, description="timm:NAME[.TAG], timm:NAME@FILE, hf:REPO, checkpoint files or model folders."
    )
    images: tuple[str, ...] = Field(min_length=1, description="Image folders or Parquet manifests.")
    out: Path = Field(Path("runs/analysis"), description="Where analysis.json and the pictures go.")
    max_images: int = Field(256, ge=1, description="At most so many images, drawn with the seed.")
    seed: int = Field(0, ge=0, description="Seed of the draw.")
    size: int | None = Field(None, ge=16, description="Side that images are squashed to; none: the model's own.")
    normalization: Literal["model", "imagenet", "infmix"] = Field(
        "model", description="Mean and standard deviation: the model's own, ImageNet's or InfMix's."
    )
    target_nmi: float = Field(HYBRID_NMI, gt=0, lt=1, description="NMI of a hybrid layer.")
    local_above: float = Field(LOCAL_ABOVE, description="Layers with a higher NMI are local.")
    global_below: float = Field(GLOBAL_BELOW, description="Layers after the peak with a lower NMI are global.")
    exclude_layers: tuple[int, ...] = Field((), description="Layers not to choose.")
    pictures: int = Field(2, ge=0, description="Images whose attention maps are drawn.")
    batch_size: int = Field(16, ge=1, description="Images per forward pass.")
    device: Device = Field("auto", description="Where to run.")
    dry_run: bool = Field(False, description="Load models and look at the images, write nothing.")


@dataclass(frozen=True)
class AnalyzeResult:
    """Where the analysis is and what it says (the content of ``analysis.json``)."""

    out: Path
    analysis: dict[str, Any]


@verb(AnalyzeConfig)
def analyze(config: AnalyzeConfig) -> AnalyzeResult | None:
    """Measure each layer's NMI, name its pattern and recommend the layer to distil.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: A model or image cannot be read, or the settings do not fit a model.
    """
    table = open_images(config.images)
    indices = sample_indices(table, None, config.max_images, config.seed)
    say(summary_table(summary(table)))
    backbones = [load_backbone(source) for source in config.models]
    for backbone in backbones:
        say(str(backbone.report or f"{backbone.source}: random weights"))
        side = input_side(config, backbone)
        for layer in config.exclude_layers:
            check_layer(backbone.model, layer)
        say(f"{backbone.source}: {depth_of(backbone.model)} layers, {len(indices)} images squashed to {side} px")
    if config.dry_run:
        say(f"dry run: would write {config.out}; nothing was written")
        return None

    records = [analyze_model(config, backbone, table, indices) for backbone in backbones]
    analysis = {
        "images": {"sources": list(config.images), "count": len(indices), "of": table.num_rows, "seed": config.seed},
        "preprocessing": {"resize": "squash", "grey": True, "normalization": config.normalization},
        "thresholds": {"local_above": config.local_above, "global_below": config.global_below},
        "models": records,
    }
    names = file_names([backbone.source for backbone in backbones])
    for record, backbone, name in zip(records, backbones, names, strict=True):
        say(layer_table(record))
        choice = record["choice"]
        for line in [f"{backbone.source}: {choice['reason']}", *(f"warning: {w}" for w in choice["warnings"])]:
            say(line)
        if config.pictures:
            picture = draw_maps(config, backbone, table, indices[: config.pictures])
            write_picture(config.out / f"maps-{name}.png", picture)
    write_figure(config.out / "nmi.png", plot_nmi(records, target=config.target_nmi))
    write_json(config.out / "analysis.json", analysis)
    say(f"wrote {config.out}/analysis.json, nmi.png and attention maps")
    return AnalyzeResult(config.out, analysis)


def analyze_model(config: AnalyzeConfig, backbone: Backbone, table: pa.Table, indices: list[int]) -> dict[str, Any]:
    """Measure one model; returns its record of ``analysis.json``."""
    backbone.model.to(choose_device(config.device))
    with meter(f"measuring {backbone.source}", len(indices), "images") as progress:

        def batches() -> Iterator[torch.Tensor]:
            for first in range(0, len(indices), config.batch_size):
                part = indices[first : first + config.batch_size]
                yield model_input(config, backbone, squashed(table, part, input_side(config, backbone)))
                progress.advance(len(part))

        found = measure_nmi(backbone.model, batches())
    means = [found[layer].mean().item() for layer in sorted(found)]
    patterns = name_patterns(means, local_above=config.local_above, global_below=config.global_below)
    try:
        choice = choose_hybrid_layer(means, target=config.target_nmi, exclude=config.exclude_layers).as_json()
    except NoHybridLayer as error:  # that a model stays local is a finding, not a failure
        choice = {"layer": None, "reason": error.what, "warnings": []}
    layers = [
        {
            "layer": layer,
            "nmi": means[layer - 1],
            "nmi_std_over_images": values.mean(1).std(correction=0).item(),
            "nmi_per_head": values.mean(0).tolist(),
            "heads": values.shape[1],
            "pattern": patterns[layer - 1],
        }
        for layer, values in sorted(found.items())
    ]
    return {
        "model": backbone.source,
        "sha256": backbone.report.sha256 if backbone.report else None,
        "input_size": input_side(config, backbone),
        "layers": layers,
        "choice": choice,
    }


def input_side(config: AnalyzeConfig, backbone: Backbone) -> int:
    """Side of the square the images are squashed to, in pixels."""
    side = config.size or backbone.input_size
    patch = patch_size(backbone.model)
    if side % patch:
        raise UnipError(
            f"{side} px is no whole number of {backbone.source}'s {patch}-px patches",
            f"Choose --size as a multiple of {patch}.",
        )
    return side


def model_input(config: AnalyzeConfig, backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    """Normalise uint8 grey images (B, 1, S, S) as asked; returns float (B, 3, S, S) on the model's device."""
    mean, std = {
        "model": (backbone.mean, backbone.std),
        "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
        "infmix": ((INFMIX_MEAN,) * 3, (INFMIX_STD,) * 3),
    }[config.normalization]
    device = next(backbone.model.parameters()).device
    pixels = images.to(device).float().expand(-1, 3, -1, -1) / 255
    return (pixels - pixels.new_tensor(mean)[:, None, None]) / pixels.new_tensor(std)[:, None, None]


@torch.inference_mode()
def draw_maps(config: AnalyzeConfig, backbone: Backbone, table: pa.Table, indices: list[int]) -> Picture:
    """Draw what three query tokens attend to in every layer (mean over heads)."""
    model: Any = backbone.model
    images = squashed(table, indices, input_side(config, backbone))
    rows_of: dict[int, np.ndarray] = {}

    def visit(layer: int, q: torch.Tensor, k: torch.Tensor, scale: float) -> None:
        rows_of[layer] = attention_map(q, k, scale).mean(1).cpu().numpy()

    layers = list(range(1, depth_of(model) + 1))
    with visiting(model, layers, visit):
        model.forward_features(model_input(config, backbone, images))
    prefix = int(model.num_prefix_tokens)
    count = math.isqrt(rows_of[1].shape[-1] - prefix)
    rows, labels = [], []
    for number, image in enumerate(images[:, 0].numpy()):
        for name, query in example_queries(image, (count, count)).items():
            maps = [patch_rows(rows_of[n][number], query, prefix=prefix, grid=(count, count)) for n in layers]
            rows.append([np.repeat(image[..., None], 3, 2), *(attention_picture(image, m, query) for m in maps)])
            labels.append(name)
    return sheet(rows, columns=["image", *(f"layer {n}" for n in layers)], labels=labels)


def layer_table(record: dict[str, Any]) -> Table:
    """A model's layers as a table for the terminal."""
    table = Table(title=record["model"])
    for heading in ("layer", "NMI", "± images", "heads min–max", "pattern"):
        table.add_column(heading, justify="left" if heading == "pattern" else "right")
    for layer in record["layers"]:
        heads = layer["nmi_per_head"]
        chosen = "  ← distil" if layer["layer"] == record["choice"]["layer"] else ""
        table.add_row(
            str(layer["layer"]),
            f"{layer['nmi']:.3f}",
            f"{layer['nmi_std_over_images']:.3f}",
            f"{min(heads):.3f}–{max(heads):.3f}",
            layer["pattern"] + chosen,
        )
    return table


def file_names(sources: Sequence[str]) -> list[str]:
    """Make the models' names fit for file names, and different from each other."""
    names: list[str] = []
    for source in sources:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).name if "/" in source else source).strip("-.") or "model"
        same = sum(name == plain or name.startswith(f"{plain}--") for name in names)
        names.append(f"{plain}--{same + 1}" if same else plain)
    return names
