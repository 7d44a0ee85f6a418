"""What `families.py` measures: `unip analyze` of one model on one set, and how attention meets objects."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from unip.analysis.config import AnalyzeConfig
from unip.analysis.examples import grid_of
from unip.analysis.inputs import model_input
from unip.analysis.program import AnalyzeResult
from unip.analysis.samples import draw_sample, list_files
from unip.analysis.verbs import analyze
from unip.attention.capture import attention_map, visiting
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.pairs import SegmentationData
from unip.files import read_json, sha256
from unip.runtime.device import choose_device
from unip.version import __version__
from unip.vit.backbone import Backbone, load_backbone
from unip.vit.shape import depth_of, prefix_tokens

SIDE = 224  # pixels of the squares that every model is shown
NOT_OF_RESULTS = {"models", "images", "out", "probe", "device", "batch_size", "max_pixels", "overwrite", "dry_run"}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """A model of the page.

    Attributes:
        key: In names of files.
        label: In figures.
        colour: Of its lines.
        source: As for `unip analyze`; ``{weights}`` is the folder of files.
        training: How it was trained.
        exclude: Layers that are not to be chosen.
        because: Why not.
    """

    key: str
    label: str
    colour: str
    source: str
    training: str
    exclude: tuple[int, ...] = ()
    because: str = ""

    def file(self, weights: Path) -> Path | None:
        """Return its file or folder of weights; None where none is needed."""
        name = self.source.partition("{weights}/")[2]
        return weights / name if name else None

    def load(self, weights: Path) -> Backbone:
        """Load it, random weights always the same."""
        torch.manual_seed(0)
        return load_backbone(self.source.format(weights=weights))


@dataclass(frozen=True)
class ImageSet:
    """Frames of the page.

    Attributes:
        key: In names of files.
        label: In figures.
        images: Folder inside the data.
        credit: Who made them, and their licence.
        labelled: Segmentation folder inside the data; empty: there are no masks.
        foreground: Names of the classes that are objects.
        side: Short side of the probe's images, in pixels.
        outlines: Whether the licence lets the page outline the patches of objects.
    """

    key: str
    label: str
    images: str
    credit: str
    labelled: str = ""
    foreground: tuple[str, ...] = ()
    side: int = SIDE
    outlines: bool = False


@dataclass(frozen=True)
class Settings:
    """Where things are, and how much is measured."""

    data: Path
    weights: Path
    work: Path
    images: int
    probe_images: tuple[int, int]
    device: str

    def of(self, family: Family, images: ImageSet) -> AnalyzeConfig:
        """Return what `unip analyze` is asked."""
        return AnalyzeConfig.make(
            models=(family.source.format(weights=self.weights),),
            images=(str(self.data / images.images),),
            out=self.work / images.key / family.key,
            max_images=self.images,
            size=SIDE,
            exclude_layers=family.exclude,
            report=False,
            probe=self.data / images.labelled if images.labelled else None,
            probe_images=self.probe_images,
            probe_side=images.side,
            device=self.device,
            overwrite=True,
        )


@dataclass(frozen=True)
class Row:
    """What was measured of a model on a set. Lists have one value for each layer, or none if it was not measured.

    Attributes:
        made_from: Model, settings, weights and version; another row is measured if they are others.
        sha256: Of the weights.
        images: How many.
        grid: Patches along a side.
        nmi: Mean over images and heads.
        nmi_std: Deviation over images.
        distance: Attention distance, a share of the diagonal.
        high_frequency: Of the features.
        patterns: Names.
        layer: The one whose NMI is nearest to the target.
        runner_up: The next.
        margin: How much nearer to the target the first is, in NMI.
        probe_images: To train and to test on.
        probe_side: Short side, in pixels.
        miou: Of each layer's probe, in percent.
    """

    made_from: dict[str, str]
    sha256: str | None
    images: int
    grid: int
    nmi: list[float]
    nmi_std: list[float]
    distance: list[float]
    high_frequency: list[float]
    patterns: list[str]
    layer: int | None
    runner_up: int | None
    margin: float | None
    probe_images: tuple[int, int]
    probe_side: int
    miou: list[float]

    @property
    def chosen(self) -> int | None:
        """The layer to distil; None where no layer is hybrid, of which the nearest to the target says nothing."""
        return self.layer if "hybrid" in self.patterns else None


@dataclass(frozen=True)
class Focus:
    """Where the attention of patches on patches goes, one value for each layer; means over heads and images.

    Attributes:
        made_from: As of a :class:`Row`.
        near: Share that stays within one patch of the query.
        sinks: Share that the most attended twentieth of all patches gets, whatever the query.
        lift: Attention on objects farther away than that, relative to even attention there. None without masks.
    """

    made_from: dict[str, str]
    near: list[float]
    sinks: list[float]
    lift: list[float]


def measure(family: Family, images: ImageSet, settings: Settings) -> Row:
    """Measure a model on a set, or take what an earlier call has measured with the same settings and weights."""
    made_from, kept = made_of(family, images, settings), settings.work / images.key / f"{family.key}.json"
    if kept.is_file() and (row := read_json(kept, Row)).made_from == made_from:
        return row
    torch.manual_seed(0)  # of random weights
    result = analyze(settings.of(family, images))
    assert isinstance(result, AnalyzeResult)
    row = row_of(result, made_from)
    kept.write_text(json.dumps(asdict(row), indent=1) + "\n", encoding="utf-8")
    return row


def made_of(family: Family, images: ImageSet, settings: Settings) -> dict[str, str]:
    """Return what a measurement follows from: model, settings, weights and the version."""
    config = settings.of(family, images)
    asked = {name: str(value) for name, value in config.model_dump().items() if name not in NOT_OF_RESULTS}
    made_from = {"model": family.source, **asked}
    file = family.file(settings.weights)
    if file is not None:
        made_from["weights"] = sha256(file / "model.safetensors" if file.is_dir() else file)
    return {**made_from, "unip": __version__}


def row_of(result: AnalyzeResult, made_from: dict[str, str]) -> Row:
    """Take what the page needs of an analysis."""
    record = result.analysis.models[0]
    choice: Any = record.choice
    probe = record.probe

    def values(name: str, part: str = "mean") -> list[float]:
        return [getattr(layer.measures[name], part) for layer in record.layers]

    return Row(
        made_from=made_from,
        sha256=record.sha256,
        images=result.analysis.images.count,
        grid=record.grid[0],
        nmi=values("nmi"),
        nmi_std=values("nmi", "std"),
        distance=values("distance_share"),
        high_frequency=values("high_frequency"),
        patterns=[layer.pattern for layer in record.layers],
        layer=choice.layer,
        runner_up=getattr(choice, "runner_up", None),
        margin=getattr(choice, "margin", None),
        probe_images=(probe.train_images, probe.test_images) if probe else (0, 0),
        probe_side=probe.short_side if probe else 0,
        miou=[100 * (layer.miou or 0) for layer in probe.layers] if probe else [],
    )


def measure_focus(family: Family, images: ImageSet, settings: Settings) -> Focus:
    """Measure where a model's attention goes on the frames of :func:`measure`, or take what is kept of it."""
    made_from, kept = made_of(family, images, settings), settings.work / images.key / f"{family.key}-focus.json"
    if kept.is_file() and (focus := read_json(kept, Focus)).made_from == made_from:
        return focus
    config, backbone = settings.of(family, images), family.load(settings.weights)
    sample = draw_sample(config, list_files(config)[0], [SIDE])
    labelled = open_masks(config, images) if images.labelled else None
    model = backbone.model.to(choose_device(config.device)).eval()
    side = grid_of(model, SIDE)[0]
    around = neighbours(side)
    found: list[list[tuple[float, float, float]]] = [[] for _ in range(depth_of(model))]
    for name, square in zip(sample.names, sample.squares["images"][SIDE], strict=True):
        objects = np.zeros(side**2)
        if labelled is not None:
            objects = object_share(labelled, name, images.foreground, side).ravel()
        for layer, attention in enumerate(patch_attention(model, model_input(config, backbone, [square]))):
            found[layer].append(focus_of(attention, objects, around))
    values = np.array(found)  # (layers, images, 3)
    near, sinks = values[..., :2].mean(1).T.tolist()
    lift = [] if labelled is None else np.nanmean(values[..., 2], axis=1).tolist()
    focus = Focus(made_from, near, sinks, lift)
    kept.write_text(json.dumps(asdict(focus), indent=1) + "\n", encoding="utf-8")
    return focus


def focus_of(attention: Floats, objects: Floats, around: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Compute `near`, `sinks` and `lift` of one map, see :class:`Focus`; means over queries.

    Args:
        attention: Of patches on patches (P, P); scaled here so that each row adds up to 1.
        objects: Share of each patch that objects cover (P,). Where there is none, `lift` is NaN.
        around: Which patches are the neighbourhood of each (P, P).
    """
    rows = attention / attention.sum(1, keepdims=True)
    far = ~around
    near = float((rows * around).sum(1).mean())
    sinks = float(np.sort(rows.mean(0))[-round(len(rows) / 20) :].sum())
    if not objects.any():
        return near, sinks, np.nan
    even = (far @ objects) / far.sum(1)
    given = (rows * far) @ objects / np.maximum((rows * far).sum(1), 1e-12)
    return near, sinks, float(given.mean() / even.mean())


def neighbours(side: int) -> npt.NDArray[np.bool_]:
    """Return which patches lie within one patch of each other, (P, P) for a square grid."""
    places = np.stack(np.divmod(np.arange(side * side), side), 1)
    return np.asarray(np.abs(places[:, None] - places[None]).max(-1) <= 1)


@torch.inference_mode()
def patch_attention(model: Any, pixels: torch.Tensor) -> list[Floats]:
    """Return the attention of each layer, mean over heads, without class and register tokens.

    Args:
        model: A timm ViT in evaluation mode.
        pixels: One normalised image (1, 3, S, S) on its device.

    Returns:
        For each layer (P, P).
    """
    prefix, maps = prefix_tokens(model), []

    def visit(layer: int, q: torch.Tensor, k: torch.Tensor, scale: float) -> None:
        maps.append(attention_map(q, k, scale)[0].mean(0)[prefix:, prefix:].double().cpu().numpy())

    with visiting(model, range(1, depth_of(model) + 1), visit):
        model.forward_features(pixels)
    return maps


def open_masks(config: AnalyzeConfig, images: ImageSet) -> SegmentationData:
    """Open the masks of the images that are analysed."""
    assert config.probe is not None
    split = Path(images.images).relative_to(images.labelled).parts[0]
    return open_segmentation(config.probe, split)


def object_share(labelled: SegmentationData, name: str, foreground: tuple[str, ...], side: int) -> Floats:
    """Return the share of each patch that objects cover, (side, side), of an image squashed to a square."""
    mask = labelled.read_mask([str(path) for path in labelled.images].index(name))
    ids = [labelled.classes.names.index(each) for each in foreground]
    covered = Image.fromarray(np.isin(mask, ids).astype(np.float32))
    return np.asarray(covered.resize((side, side), Image.Resampling.BOX), dtype=np.float64)
