"""Which of two backbones labelled frames speak for: linear probes of four layers, fitted on one half of the frames.

The probes are those of :mod:`unip.features.logistic`. They are judged patch by patch on the other half: a patch gets
one class, which is right for the share of its pixels that have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unip.data.balance import assign
from unip.data.grouping import cut_blocks, guess_sequences
from unip.data.labelled.datasets import list_splits, open_segmentation
from unip.data.labelled.drawing import choose
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError
from unip.features.config import ProbeSettings
from unip.features.logistic import Probe, train_probes
from unip.features.patches import FeaturesOutOfRange, class_shares, layer_maps
from unip.vit.backbone import Backbone
from unip.vit.shape import depth_of, patch_size

MOST_IMAGES = 200
FEWEST_IMAGES = 8
BLOCK = 5  # neighbours by name that stay in one half, where names show no videos
SHORT_SIDE = 448  # pixels
DRAWS = 2000  # of the bootstrap
CONFIDENCE = 0.95
SEED = 0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ProbeHalves:
    """Labelled frames to fit probes on and to judge them on, and the video or block of each of the latter."""

    fitted: SegmentationData
    judged: SegmentationData
    groups: tuple[str, ...]


@dataclass(frozen=True)
class ProbeComparison:
    """How well linear probes of a new backbone segment, less those of an old one.

    Attributes:
        layers: That were probed, 1-based.
        before: mIoU of each layer's probe, old backbone.
        after: The same of the new one.
        difference: Of the means over the layers; NaN: features or scores were not finite.
        low: Lower limit of its 95 % interval: bootstrap over the judged videos, or frames where those are few; NaN:
            there is none.
        high: Upper limit.
        images: Frames that were judged.
        drawn: How many videos or frames the bootstrap draws from.
    """

    layers: tuple[int, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    difference: float
    low: float
    high: float
    images: int
    drawn: int


def open_halves(path: Path, seed: int) -> ProbeHalves:
    """Open labelled frames, the split ``train`` if there is one, and divide them into halves that share no video.

    Raises:
        UnipError: There are too few frames or videos, or a mask is bad.
    """
    splits = list_splits(path)
    data = open_segmentation(path, "train" if "train" in splits else splits[0] if splits else None)
    if len(data) < FEWEST_IMAGES:
        raise UnipError(
            f"probe_data {path} has {len(data)} labelled frames, too few to judge a start by",
            f"Give {FEWEST_IMAGES} or more; without probe_data only a collapse is noticed.",
        )
    data = data.take(choose(data, min(MOST_IMAGES, len(data)), seed, guess_sequences(data.images)))
    groups = tuple(guess_sequences(data.images) or cut_blocks(data.images, BLOCK))
    if len(set(groups)) < 2:
        groups = tuple(image.name for image in data.images)
    classes = len(data.classes.names)
    counts = np.stack([np.bincount(data.read_mask(i).ravel(), minlength=256)[:classes] for i in range(len(data))])
    halves = np.array(assign([image.name for image in data.images], groups, counts, (0.5, 0.5), seed))
    first, second = (np.flatnonzero(halves == half).tolist() for half in (0, 1))
    if not counts[first].any() or not counts[second].any():
        raise UnipError(f"half of the masks of probe_data {path} have no labelled pixel", "Label more frames.")
    return ProbeHalves(data.take(first), data.take(second), tuple(groups[index] for index in second))


@dataclass(frozen=True)
class _Spec:
    layers: tuple[int, ...]
    short_side: int


class ProbedBackbone(nn.Module):
    """A backbone as :mod:`unip.features` takes features from it."""

    def __init__(self, backbone: nn.Module, layers: tuple[int, ...], mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.backbone, self.patch = backbone, patch_size(backbone)
        self.spec = _Spec(layers, max(2, round(SHORT_SIDE / self.patch)) * self.patch)
        device = next(backbone.parameters()).device
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, device=device).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, device=device).view(1, 3, 1, 1))

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the maps ``(B, C, h, w)`` of the layers for normalised, padded images."""
        unique = sorted(set(self.spec.layers))
        maps = self.backbone.forward_intermediates(  # type: ignore[operator]
            images,
            indices=[layer - 1 for layer in unique],
            norm=False,
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return [maps[unique.index(layer)] for layer in self.spec.layers]

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 ``(B, 3, H, W)`` into normalised floats, padded right and below with the mean colour."""
        scaled = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        height, width = self.padded_size(images)
        return F.pad(scaled, (0, width - images.shape[-1], 0, height - images.shape[-2]))

    def padded_size(self, images: Tensor) -> tuple[int, int]:
        """Return the sides in whole patches, in pixels."""
        height, width = (max(2, -(-side // self.patch)) * self.patch for side in images.shape[-2:])
        return height, width


def probed_layers(depth: int) -> tuple[int, ...]:
    """Return four layers at one third, one half, two thirds and the end, as a linear probe sees them."""
    return tuple(sorted({max(1, round(depth * share)) for share in (1 / 3, 1 / 2, 2 / 3, 1)}))


def compare(old: Backbone, new: Backbone, halves: ProbeHalves, device: torch.device) -> ProbeComparison:
    """Probe two backbones of one depth on the same frames."""
    layers = probed_layers(depth_of(old.model))
    before, after = (probe(backbone, layers, halves, device) for backbone in (old, new))
    units = np.unique(halves.groups, return_inverse=True)[1]
    if units.max() + 1 < 5:  # draws of so few say next to nothing
        units = np.arange(len(halves.judged))
    count = int(units.max()) + 1
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    weights = np.concatenate([np.ones((1, count)), drawn])[:, units]
    of_layers = [miou_of_draws(matrices, weights) for matrices in (before, after)]
    change = (of_layers[1] - of_layers[0]).mean(1)
    low, high = interval(change[1:]) if np.isfinite(change[0]) else (np.nan, np.nan)
    shown = [tuple(float(value) for value in values[0]) for values in of_layers]
    return ProbeComparison(
        layers, shown[0], shown[1], float(change[0]), float(low), float(high), len(halves.judged), count
    )


def interval(changes: Floats) -> tuple[float, float]:
    """Return the limits of what draws ``(draws,)`` show; those without a labelled patch (NaN) are left out."""
    shown = changes[np.isfinite(changes)]
    if not len(shown):
        return np.nan, np.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(shown, [tail, 1 - tail])
    return float(low), float(high)


def probe(backbone: Backbone, layers: tuple[int, ...], halves: ProbeHalves, device: torch.device) -> Floats:
    """Fit a probe for each layer on one half; return confusion matrices ``(images, layers, C, C)``, in patches.

    They are NaN where features or a probe's scores are not finite.
    """
    model = ProbedBackbone(backbone.model.to(device).eval(), layers, list(backbone.mean), list(backbone.std))
    model = model.to(device).eval()
    shares, counts = class_shares(model, halves.judged)
    truths = np.split(shares.astype(np.float64), np.cumsum(counts)[:-1])
    classes = shares.shape[1]
    found = np.zeros((len(truths), len(layers), classes, classes))
    try:
        _judge(model, train_probes(model, halves.fitted, ProbeSettings(data=Path())), halves.judged, truths, found)
    except FeaturesOutOfRange:  # hours of training are not lost to it: the guard keeps the start
        found[...] = np.nan
    return found


def _judge(
    model: ProbedBackbone, probes: Sequence[Probe], data: SegmentationData, truths: Sequence[Floats], found: Floats
) -> None:
    """Count in ``found`` what probes give for frames whose patches have these shares of classes."""
    with torch.inference_mode():
        for frame, maps in layer_maps(model, data, 4, "judging probes"):
            for layer, (fitted, tokens) in enumerate(zip(probes, maps.flatten(2).transpose(1, 2).cpu(), strict=True)):
                scores = (tokens - fitted.mean) / fitted.scale @ fitted.weight + fitted.bias
                if not scores.isfinite().all():  # the largest of them would be any class
                    found[frame.index, layer] = np.nan
                    continue
                predicted = fitted.classes[scores.argmax(1)].numpy()
                for class_id in np.unique(predicted):
                    found[frame.index, layer, :, class_id] = truths[frame.index][predicted == class_id].sum(0)


def miou_of_draws(matrices: Floats, weights: Floats) -> Floats:
    """Return the mean IoU ``(draws, layers)``, over the classes in truth or prediction.

    It is NaN for a draw without a labelled patch, and for all draws of a layer of which a matrix is not finite.

    Args:
        matrices: Confusion matrices, rows are true classes, ``(images, layers, C, C)``.
        weights: How often each image counts, ``(draws, images)``.
    """
    hits = np.einsum("di,ilc->dlc", weights, np.diagonal(matrices, axis1=2, axis2=3))
    union = np.einsum("di,ilc->dlc", weights, matrices.sum(2) + matrices.sum(3)) - hits
    there = union > 0
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=there)
    count = there.sum(2)
    means: Floats = np.divide(iou.sum(2), count, out=np.full(count.shape, np.nan), where=count > 0)
    means[:, ~np.isfinite(matrices).all((0, 2, 3))] = np.nan
    return means
