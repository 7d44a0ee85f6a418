"""Layer-wise linear probes: how well each layer of a frozen ViT segments with nothing but a linear classifier on top.

All layers are probed on one pass over the images. The probe of a layer is multinomial logistic regression of its
patch tokens on the classes of the pixels below each patch. That is convex, so there are no training seeds, no schedule
and no learning rate that could favour one layer: each layer gets its own optimum.
"""

from __future__ import annotations

import shutil
import tempfile

import numpy as np
import torch
from torch import Tensor

from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError
from unip.features.config import ProbeSettings
from unip.features.logistic import Floats, Halves, Probe, fit_probe, unscaled
from unip.features.model import FeatureModel
from unip.features.patches import class_shares, layer_maps
from unip.progress import meter
from unip.runtime.memory import Cache, use_ram
from unip.vit.shape import width_of

MIN_RELATIVE_DEVIATION = 1e-2  # of a layer's mean deviation: channels that vary less are not blown up further


def train_probes(segmenter: FeatureModel, data: SegmentationData, settings: ProbeSettings) -> list[Probe]:
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


def train_features(
    segmenter: FeatureModel, data: SegmentationData, targets: list[Floats], settings: ProbeSettings
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
            quiet = MIN_RELATIVE_DEVIATION * deviation.mean(1, keepdim=True)
            stretch = torch.where(quiet > 0, deviation.maximum(quiet), torch.ones_like(deviation))
        halves = ((tokens - shift[:, None]) / stretch[:, None]).half()
        if not halves.isfinite().all():
            raise UnipError(
                f"{data.images[frame.index]} gives features more than 65504 deviations away from those of "
                f"{data.images[0]}",
                "Look at both images: one may be damaged. Otherwise the model's weights are damaged.",
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
