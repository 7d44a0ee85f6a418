"""How well the features of a frozen backbone segment: with a linear probe of each layer, or by neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unip.data.labelled.classes import IGNORE
from unip.data.labelled.pairs import SegmentationData
from unip.data.sampling.frames import Frame
from unip.errors import UnipError
from unip.features.config import NeighbourSettings, ProbeSettings
from unip.features.logistic import Probe, train_probes
from unip.features.neighbours import training_patches, vote
from unip.features.patches import layer_maps
from unip.segmentation.heads import resize
from unip.segmentation.metrics import confusion, score
from unip.segmentation.model import Segmenter, SegmenterSpec
from unip.segmentation.probe_data import ProbeData
from unip.vit.backbone import Backbone
from unip.vit.shape import depth_of, patch_size


@dataclass(frozen=True)
class LayerScores:
    """Scores of a layer's probe, the layer counted from 1; None where there is no value."""

    layer: int
    miou: float | None
    foreground_miou: float | None
    iou: list[float | None]


@dataclass(frozen=True)
class LayerProbes:
    """How well each layer of a backbone segments.

    A class in neither truth nor prediction has no IoU and does not count in the mean, as in `unip evaluate`.

    Attributes:
        data: Source of the data set.
        train: Split to train on.
        test: Split to test on.
        train_images: How many.
        test_images: How many.
        short_side: Of the images, in pixels.
        classes: Their names.
        layers: One for each layer, in order.
        best_layer: By mIoU, from 1.
        warnings: For people.
    """

    data: str
    train: str
    test: str
    train_images: int
    test_images: int
    short_side: int
    classes: list[str]
    layers: list[LayerScores]
    best_layer: int
    warnings: list[str]


def probe_layers(
    backbone: Backbone,
    settings: ProbeSettings,
    splits: ProbeData,
    *,
    device: torch.device,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> LayerProbes:
    """Train one linear probe for each layer of a frozen backbone, and test them.

    The features are the blocks' outputs without the final norm and without prefix tokens, of whole images with their
    ratio kept. Scores are resized bilinearly to the stored masks, as in `unip evaluate`.

    Args:
        backbone: The ViT; put into evaluation mode on ``device``.
        settings: Of the training.
        splits: As of :func:`unip.segmentation.probe_data.open_splits` with these settings.
        device: Where to run.
        mean: Channel means to subtract instead of the backbone's.
        std: Channel deviations to divide by instead of the backbone's.

    Raises:
        UnipError: A file is damaged, or memory and disk are too small.
    """
    train, test, test_split = splits
    layers = tuple(range(1, depth_of(backbone.model) + 1))
    segmenter = frozen_segmenter(backbone, layers, train, settings.short_side, mean=mean, std=std).to(device)
    side = segmenter.spec.short_side
    try:
        probes = train_probes(segmenter, train, settings)
        with torch.inference_mode():
            matrices = evaluate_probes(segmenter, probes, test, settings.batch_size)
    except torch.OutOfMemoryError as error:
        raise UnipError(
            f"the device ran out of memory with {settings.batch_size} images of {side} px at a time",
            "Lower the probe's batch size, short side or number of training images.",
        ) from error
    scores = [score(matrix, train.classes.names) for matrix in matrices.sum(0)]
    found_layers = [
        LayerScores(number, found["miou"], found["foreground_miou"], [row["iou"] for row in found["classes"]])
        for number, found in enumerate((s.to_dict() for s in scores), 1)
    ]
    return LayerProbes(
        data=str(settings.data),
        train=settings.train,
        test=test_split,
        train_images=len(train),
        test_images=len(test),
        short_side=side,
        classes=list(train.classes.names),
        layers=found_layers,
        best_layer=1 + int(np.argmax([s.miou for s in scores])),
        warnings=[
            f"the probe of layer {layer} was still improving after {probe.steps} steps"
            for layer, probe in enumerate(probes, 1)
            if probe.steps == settings.max_iterations
        ],
    )


def frozen_segmenter(
    backbone: Backbone,
    layers: tuple[int, ...],
    data: SegmentationData,
    short_side: int,
    *,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> Segmenter:
    """Wrap a backbone to take features of some layers, 1-based, from images of ``data``, in evaluation mode.

    The short side, in pixels, is rounded to whole patches.
    """
    patch = patch_size(backbone.model)
    spec = SegmenterSpec(
        backbone=backbone.spec,
        classes=data.classes,
        decoder="linear",
        layers=layers,
        channels=1,
        mean=mean or backbone.mean,
        std=std or backbone.std,
        short_side=max(2, int(short_side / patch + 0.5)) * patch,
    )
    return Segmenter(spec, backbone.model).eval()


def evaluate_probes(
    segmenter: Segmenter, probes: list[Probe], data: SegmentationData, batch: int
) -> npt.NDArray[np.int64]:
    """Segment the test images with every layer's probe.

    Returns:
        Confusion matrices ``(images, layers, C, C)``.
    """
    device = segmenter.mean.device
    count = len(data.classes.names)
    matrices = torch.zeros(len(data), len(probes), count, count, dtype=torch.int64)
    mean, scale = (torch.stack([getattr(p, name) for p in probes]).to(device) for name in ("mean", "scale"))
    weight, bias = (torch.stack([getattr(p, name) for p in probes]).to(device) for name in ("weight", "bias"))
    classes = probes[0].classes.to(device)
    for frame, maps in layer_maps(segmenter, data, batch, "testing probes"):
        tokens = (maps.flatten(2).transpose(1, 2) - mean[:, None]) / scale[:, None]
        logits = torch.baddbmm(bias[:, None], tokens, weight).transpose(1, 2).reshape(len(probes), -1, *maps.shape[-2:])
        for layer, scores in enumerate(logits):  # one at a time: at the stored size they are large
            matrices[frame.index, layer] = compare_patches(segmenter, frame, scores, classes, count)
    return matrices.numpy()


def compare_patches(segmenter: Segmenter, frame: Frame, scores: Tensor, classes: Tensor, count: int) -> Tensor:
    """Compare scores of patches with the frame's mask, resized as `unip evaluate` does.

    Args:
        segmenter: Which gave the features.
        frame: With its mask.
        scores: ``(K, h, w)``, the highest wins.
        classes: ``(K,)`` int64, the ids that they are of.
        count: Number of all classes C.

    Returns:
        The confusion matrix, int64 ``(C, C)`` on the CPU.
    """
    assert frame.mask is not None
    truth = torch.from_numpy(frame.mask).to(scores.device)
    height, width = frame.pixels.shape[-2:]
    inside = resize(scores[None], segmenter.padded_size(frame.pixels))[..., :height, :width]
    whole = resize(inside, (truth.shape[0], truth.shape[1]))
    # on a CPU, max over the first axis is five times as fast as argmax
    return confusion(classes[whole[0].max(0).indices], truth, count, IGNORE).cpu()


@torch.inference_mode()
def segment_by_neighbours(
    segmenter: Segmenter, train: SegmentationData, test: SegmentationData, settings: NeighbourSettings, seed: int
) -> npt.NDArray[np.int64]:
    """Give each test patch the votes of its nearest training patches, by cosine similarity; resize the votes.

    A training patch votes for the class that covers most of its labelled part; one without a label does not vote.

    Args:
        segmenter: Gives the features of one layer; on the device to compute on.
        train: Whose patches vote.
        test: What is segmented.
        settings: How.
        seed: Of the draw of training patches.

    Returns:
        Confusion matrices ``(images, C, C)``.

    Raises:
        UnipError: Nothing is labelled, or an image is damaged.
    """
    bank, votes = training_patches(segmenter, train, settings, seed)
    count = len(train.classes.names)
    classes = torch.arange(count, device=bank.device)
    matrices = np.zeros((len(test), count, count), np.int64)
    for frame, maps in layer_maps(segmenter, test, settings.batch_size, "testing neighbours"):
        shares = vote(maps[0].flatten(1).T, bank, votes, settings.k, count)
        scores = shares.T.reshape(count, *maps.shape[-2:])
        matrices[frame.index] = compare_patches(segmenter, frame, scores, classes, count).numpy()
    return matrices
