"""Layer-wise linear probes: how well each layer of a frozen ViT segments with nothing but a linear classifier on top.

All layers are probed on one pass over the images. The probe of a layer is multinomial logistic regression of its
patch tokens on the classes of the pixels below each patch. That is convex, so there are no training seeds, no schedule
and no learning rate that could favour one layer: each layer gets its own optimum.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from unip.config import Config
from unip.data.classes import IGNORE
from unip.data.images import Pixels8
from unip.data.memory import Cache, use_ram
from unip.data.parallel import threaded
from unip.data.remap import Remap
from unip.data.segmentation import DATA_HELP, SegmentationData, list_splits, open_segmentation, subset
from unip.errors import UnipError
from unip.lab.logistic import Floats, Halves, Probe, fit_probe, unscaled
from unip.progress import meter
from unip.segment.heads import resize
from unip.segment.inference import Frame, Frames, rgb, short_side_size
from unip.segment.metrics import confusion, score
from unip.segment.model import Segmenter, SegmenterSpec, width_of
from unip.vit.backbone import Backbone
from unip.vit.shape import depth_of, patch_size

QUIET = 1e-2  # of a layer's mean deviation: channels that vary less are not blown up further


class ProbeSettings(Config):
    """Which labelled images the probes are trained and tested on, and how."""

    data: Path = Field(description=DATA_HELP)
    remap: Remap = ()
    train: str = Field("train", min_length=1, description="Split to train on.")
    test: str | None = Field(None, min_length=1, description="Split to test on; none: test, or val if there is none.")
    train_images: int = Field(200, ge=1, description="At most so many training images, drawn with the seed.")
    test_images: int = Field(100, ge=1, description="At most so many test images, drawn with the seed.")
    short_side: int = Field(448, ge=16, description="Images are resized to it, rounded to whole patches; pixels.")
    batch_size: int = Field(4, ge=1, description="Images per forward pass.")
    seed: int = Field(0, ge=0, description="Seed of the draws.")
    l2: float = Field(1e-4, gt=0, description="Weight of the probes' squared norm beside the mean cross-entropy.")
    max_iterations: int = Field(200, ge=1, description="Steps of L-BFGS at most, for each layer.")
    cache: Cache = Field("auto", description="Keep training features in memory, on disk (none), or as it fits (auto).")


def probe_layers(
    backbone: Backbone,
    settings: ProbeSettings,
    *,
    device: torch.device,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> dict[str, Any]:
    """Train one linear probe for each layer of a frozen backbone, and test them.

    The features are the blocks' outputs without the final norm and without prefix tokens, of whole images with their
    ratio kept. Scores are resized bilinearly to the stored masks, as in `unip evaluate`.

    Args:
        backbone: The ViT; put into evaluation mode on ``device``.
        settings: Data and training.
        device: Where to run.
        mean: Channel means to subtract instead of the backbone's.
        std: Channel deviations to divide by instead of the backbone's.

    Returns:
        JSON values: ``data``, ``train``, ``test``, ``train_images``, ``test_images``, ``short_side``, ``classes``,
        ``layers`` (a list of ``layer`` from 1 on, ``miou``, ``foreground_miou`` and each class's ``iou``; None where
        there is none), ``best_layer`` by mIoU, and ``warnings`` for people. A class in neither truth nor prediction
        has no IoU and does not count in the mean, as in `unip evaluate`.

    Raises:
        UnipError: A split is missing or has no label, a file is damaged, or memory and disk are too small.
    """
    train, test, test_split = open_splits(settings)
    layers = tuple(range(1, depth_of(backbone.model) + 1))
    segmenter = frozen(backbone, layers, train, settings.short_side, mean=mean, std=std).to(device)
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
        {
            "layer": number,
            "miou": found["miou"],
            "foreground_miou": found["foreground_miou"],
            "iou": [row["iou"] for row in found["classes"]],
        }
        for number, found in enumerate((s.to_dict() for s in scores), 1)
    ]
    return {
        "data": str(settings.data),
        "train": settings.train,
        "test": test_split,
        "train_images": len(train),
        "test_images": len(test),
        "short_side": side,
        "classes": list(train.classes.names),
        "layers": found_layers,
        "best_layer": 1 + int(np.argmax([s.miou for s in scores])),
        "warnings": [
            f"the probe of layer {layer} was still improving after {probe.steps} steps"
            for layer, probe in enumerate(probes, 1)
            if probe.steps == settings.max_iterations
        ],
    }


def frozen(
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


def open_splits(settings: ProbeSettings) -> tuple[SegmentationData, SegmentationData, str]:
    """Open both splits and draw their images, such that each class occurs if it can; also name the test split.

    Raises:
        UnipError: A split is missing, both are the same or have other classes, or nothing is labelled.
    """
    root = settings.data
    there = list_splits(root)
    name = settings.test or next((name for name in ("test", "val", "valid") if name in there), None)
    train = open_segmentation(root, settings.train, remap=settings.remap)
    if name is None:
        raise UnipError(
            f"{root} has no split to test on: neither test nor val", "Add one, or name another with the test split."
        )
    if name == settings.train:
        raise UnipError(
            f"the probes would be tested on the split they are trained on, {name!r}",
            "Name two splits: images that were trained on say nothing.",
        )
    test = open_segmentation(root, name, remap=settings.remap)
    if train.classes.names != test.classes.names:
        raise UnipError(
            f"{root}: the classes of {settings.train} are not those of {name}",
            "Keep one classes.json beside the splits.",
        )
    train = subset(train, min(settings.train_images, len(train)), settings.seed)
    test = subset(test, min(settings.test_images, len(test)), settings.seed)
    for split, data in ((settings.train, train), (name, test)):
        if not any((data.read_mask(index) != IGNORE).any() for index in range(len(data))):
            raise UnipError(
                f"none of the {len(data)} masks of {root} in {split} that were drawn has a labelled pixel",
                "Label some, draw more images, or name another split.",
            )
    return train, test, name


def train_probes(segmenter: Segmenter, data: SegmentationData, settings: ProbeSettings) -> list[Probe]:
    """Return a trained probe for each layer of the segmenter; the features are dropped again."""
    targets = class_shares(segmenter, data)
    with torch.inference_mode():
        features, shift, stretch = train_features(segmenter, data, targets, settings)
    shares = np.concatenate(targets)
    probes = []
    with meter("training probes", len(features), "layers") as progress:
        for layer, tokens in enumerate(features):
            probe = fit_probe(tokens, shares, settings.l2, settings.max_iterations, segmenter.mean.device)
            probes.append(unscaled(probe, shift[layer], stretch[layer]))
            progress.advance(note=f"layer {layer + 1}: {probe.steps} steps")
    return probes


def class_shares(segmenter: Segmenter, data: SegmentationData) -> list[Floats]:
    """Count the classes below each patch.

    Cross-entropy against these shares is that of every labelled pixel against the scores of the patch it lies in.

    Returns:
        For each image ``(patches, classes)`` float32: the area of each class in patches. Rows sum to 1, and to less
        where pixels have no label or the patch sticks out of the image.
    """

    def read(index: int) -> Floats:
        mask = data.read_mask(index)
        size = short_side_size(mask.shape[0], mask.shape[1], segmenter.spec.short_side)
        grid = tuple(side // segmenter.patch for side in segmenter.padded_size(torch.empty(size, device="meta")))
        return patch_shares(mask, size, (grid[0], grid[1]), segmenter.patch, len(data.classes.names))

    return list(threaded(read, range(len(data)), "reading labels", unit="masks"))


def patch_shares(mask: Pixels8, size: tuple[int, int], grid: tuple[int, int], patch: int, classes: int) -> Floats:
    """Return the area of each class below each patch of a mask ``(H, W)`` whose image is resized to ``size``."""
    rows, columns = (
        ((np.arange(stored) + 0.5) * (new / stored) / patch).astype(np.int64)
        for stored, new in zip(mask.shape, size, strict=True)
    )
    cells = rows[:, None] * grid[1] + columns
    labelled = mask != IGNORE
    counts = np.bincount(cells[labelled] * classes + mask[labelled], minlength=grid[0] * grid[1] * classes)
    pixel = size[0] * size[1] / mask.size / patch**2  # its area in patches
    return (counts.reshape(-1, classes) * pixel).astype(np.float32)


def layer_maps(segmenter: Segmenter, data: SegmentationData, batch: int, what: str) -> Iterator[tuple[Frame, Tensor]]:
    """Yield each frame of ``data`` with its features ``(layers, C, h, w)``, float32 on the model's device.

    Frames of a batch that have one size run together.

    Raises:
        UnipError: An image is damaged, or the model's features are not finite.
    """
    frames = Frames(data, segmenter.spec.short_side)
    with meter(what, len(frames), "images") as progress:
        for first in range(0, len(frames), batch):
            indices = range(first, min(first + batch, len(frames)))
            group = list(threaded(frames.__getitem__, indices, what, quiet=True))
            while group:
                if group[0].problem is not None:
                    raise group[0].problem
                size = group[0].pixels.shape[-2:]
                same = [frame for frame in group if frame.pixels.shape[-2:] == size]
                group = [frame for frame in group if frame.pixels.shape[-2:] != size]
                pixels = torch.stack([rgb(frame.pixels) for frame in same]).to(segmenter.mean.device)
                maps = torch.stack(segmenter.features(segmenter.normalise(pixels)), dim=1)
                if not maps.isfinite().all():
                    raise UnipError(
                        f"the model gives values that are not finite for {data.images[same[0].index]}",
                        "Its weights are spoilt, or its normalisation is not the one it was trained with.",
                    )
                yield from zip(same, maps, strict=True)
                progress.advance(len(same))


def train_features(
    segmenter: Segmenter, data: SegmentationData, targets: list[Floats], settings: ProbeSettings
) -> tuple[Halves, Tensor, Tensor]:
    """Run the training images through the model once and keep every layer's tokens as float16.

    float16 has 11 significant bits and ends at 65504. Some channels of large ViTs have a mean a hundred times their
    deviation, or single huge values; so that neither costs digits, tokens are kept centred and scaled by what each
    channel is in the first image, which a linear classifier cannot tell from the tokens themselves.

    Returns:
        Tokens ``(layers, tokens, C)`` float16 in the order of ``targets``, in memory or in an unnamed file, and the
        ``shift`` and ``stretch`` ``(layers, C)``, float32 on the CPU, such that a feature is stretch * token + shift.
    """
    counts = [len(shares) for shares in targets]
    starts = np.cumsum([0, *counts])
    layers, width = len(segmenter.spec.layers), width_of(segmenter.backbone)
    store = room_for((layers, int(starts[-1]), width), settings.cache)
    shift: Tensor | None = None
    for frame, maps in layer_maps(segmenter, data, settings.batch_size, "features for training"):
        tokens = maps.flatten(2).transpose(1, 2)
        if shift is None:
            shift, deviation = tokens.mean(1), tokens.std(1)
            quiet = QUIET * deviation.mean(1, keepdim=True)
            stretch = torch.where(quiet > 0, deviation.maximum(quiet), torch.ones_like(deviation))
        halves = ((tokens - shift[:, None]) / stretch[:, None]).half()
        if not halves.isfinite().all():
            raise UnipError(
                f"{data.images[frame.index]} gives features more than 65504 deviations away from those of "
                f"{data.images[0]}",
                "Look at both images; one of them is no usual image, or the model's weights are spoilt.",
            )
        store[:, starts[frame.index] : starts[frame.index + 1]] = halves.cpu().numpy()
    assert shift is not None
    return store, shift.cpu(), stretch.cpu()


def room_for(shape: tuple[int, int, int], cache: Cache) -> Halves:
    """Return an empty float16 array, in memory or in a file that has no name, so that nothing can be left behind.

    Raises:
        UnipError: The temporary folder has too little space.
    """
    size = 2 * int(np.prod(shape))
    if use_ram(cache, size):
        return np.empty(shape, np.float16)
    folder = tempfile.gettempdir()
    if shutil.disk_usage(folder).free < size:  # a mapped file that does not fit would kill the process
        raise UnipError(
            f"the features take {size / 1e9:.1f} GB: too much for memory and for {folder}",
            "Use fewer training images or a smaller short side, or set TMPDIR to a folder with more space.",
        )
    with tempfile.TemporaryFile() as file:  # the mapping keeps it until it is dropped
        return np.memmap(file, np.float16, "w+", shape=shape)


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
