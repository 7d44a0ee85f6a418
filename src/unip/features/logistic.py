"""Layer-wise linear probes: how well each layer of a frozen ViT segments with nothing but a linear classifier on top.

All layers are probed on one pass over the images. The probe of a layer is multinomial logistic regression of its
patch tokens on the classes of the pixels below each patch. That is convex, so there are no training seeds, no schedule
and no learning rate that could favour one layer: each layer gets its own optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unip.data.labelled.pairs import SegmentationData
from unip.features.config import ProbeSettings
from unip.features.model import FeatureModel
from unip.features.patches import FeaturesOutOfRange, Floats, class_shares, layer_maps
from unip.features.store import FeatureStore
from unip.progress import meter

Halves = npt.NDArray[np.float16]

MIN_RELATIVE_DEVIATION = 1e-2  # of a layer's mean deviation: channels that vary less are not blown up further
WHITENING_TOKENS = 16384  # tokens that tell how channels go together
GRADIENT_TOLERANCE = 1e-4  # largest entry of the gradient, in whitened coordinates, of a trained probe
MIN_DEVIATION = 1e-4  # channels that deviate less are rounding noise


@dataclass(frozen=True)
class Probe:
    """A linear classifier of one layer's tokens ``x``: scores ``(x - mean) / scale @ weight + bias``.

    Attributes:
        mean: ``(C,)`` float32.
        scale: ``(C,)`` float32.
        weight: ``(C, K)`` float32 for the K classes that occurred in training.
        bias: ``(K,)`` float32.
        classes: ``(K,)`` int64 ids of those classes.
        steps: Steps that L-BFGS took.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    classes: Tensor
    steps: int


def train_probes(segmenter: FeatureModel, data: SegmentationData, settings: ProbeSettings) -> list[Probe]:
    """Return a trained probe for each layer of the segmenter; the features are dropped again."""
    shares, counts = class_shares(segmenter, data)
    with torch.inference_mode():
        store, shift, stretch = scaled_features(segmenter, data, counts, settings)
    probes = []
    with meter("training probes", len(store.rows), "layers") as progress:
        for layer, tokens in enumerate(store.rows):
            probe = fit_probe(tokens, shares, settings.l2, settings.max_iterations, segmenter.mean.device)
            probes.append(unscaled(probe, shift[layer], stretch[layer]))
            progress.advance(note=f"layer {layer + 1}: {probe.steps} steps")
    return probes


def scaled_features(
    segmenter: FeatureModel, data: SegmentationData, counts: list[int], settings: ProbeSettings
) -> tuple[FeatureStore, Tensor, Tensor]:
    """Run the training images through the model once and keep every layer's tokens as float16.

    float16 has 11 significant bits and ends at 65504. Some channels of large ViTs have a mean a hundred times their
    deviation, or single huge values; so that neither costs digits, tokens are kept centred and scaled by what each
    channel is in the first image, which a linear classifier cannot tell from the tokens themselves.

    Returns:
        The tokens, ``counts`` of each image, and the ``shift`` and ``stretch`` ``(layers, C)``, float32 on the CPU,
        such that a feature is stretch * token + shift.
    """
    store = FeatureStore(segmenter, counts, settings.cache)
    shift: Tensor | None = None
    for frame, maps in layer_maps(segmenter, data, settings.batch_size, "features for training"):
        tokens = maps.flatten(2).transpose(1, 2)
        if shift is None:
            shift, deviation = tokens.mean(1), tokens.std(1)
            quiet = MIN_RELATIVE_DEVIATION * deviation.mean(1, keepdim=True)
            stretch = torch.where(quiet > 0, deviation.maximum(quiet), torch.ones_like(deviation))
        halves = ((tokens - shift[:, None]) / stretch[:, None]).half()
        if not halves.isfinite().all():
            raise FeaturesOutOfRange(
                f"{data.images[frame.index]} gives features more than 65504 deviations away from those of "
                f"{data.images[0]}",
                "Look at both images: one may be damaged. Otherwise the model's weights are damaged.",
            )
        store.of(frame.index).copy_(halves)
    assert shift is not None
    return store, shift.cpu(), stretch.cpu()


def fit_probe(tokens: Halves, shares: Floats, l2: float, max_iterations: int, device: torch.device) -> Probe:
    """Fit multinomial logistic regression with soft targets to its optimum, on more tokens than fit as floats.

    Minimises over W ``(C, K)`` and b ``(K,)``: sum_i sum_k t_ik (-log softmax(z_i W + b)_k) / sum t + l2 / 2 |W|^2,
    where z are the tokens, standardised by their weighted mean and deviation, and t the shares.

    L-BFGS runs in whitened coordinates V, with W = R V: neighbouring channels of a ViT say much the same, and how much
    differs between layers, which would leave some of them further from their optimum than others. This changes the
    way to the optimum, not the optimum.

    Args:
        tokens: ``(N, C)`` float16, deviations of the order of 1.
        shares: ``(N, classes)`` float32; classes that never occur are left out of the regression.
        l2: See above.
        max_iterations: Steps of L-BFGS at most.
        device: Where to compute the sums over tokens, in float32; the rest is float64 on the CPU.

    Returns:
        The probe.
    """
    present, labelled = np.flatnonzero(shares.sum(0)), np.flatnonzero(shares.sum(1))
    x, t = torch.from_numpy(tokens).to(device), torch.from_numpy(shares[:, present]).to(device)
    rows = 1024 if device.type == "cpu" else 65536  # a part in a core's cache is twice as fast; a GPU wants large ones
    parts = [(x[first : first + rows], t[first : first + rows]) for first in range(0, len(x), rows)]

    def total(of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return torch.stack([of(x_part.float(), t_part).cpu() for x_part, t_part in parts]).double().sum(0)

    prior = total(lambda x, t: t.sum(0))
    weight = prior.sum()
    prior = prior / weight
    mean = total(lambda x, t: t.sum(1) @ x) / weight
    centre = mean.float().to(device)
    scale = (total(lambda x, t: t.sum(1) @ (x - centre).square()) / weight).sqrt()
    scale = torch.where(scale > MIN_DEVIATION, scale, 1.0)
    some = torch.from_numpy(tokens[labelled[:: -(-len(labelled) // WHITENING_TOKENS)]]).double().sub(mean) / scale
    spread, axes = torch.linalg.eigh(some.T @ some / len(some))
    whiten = axes * (spread.clamp(min=0) + 10 * l2).rsqrt()

    v = torch.zeros(len(mean), len(present), dtype=torch.float64)
    bias = prior.log()

    def closure() -> float:
        w = whiten @ v.detach()
        slopes = w / scale[:, None]
        offset = bias.detach() - mean @ slopes
        on_device = slopes.float().to(device), offset.float().to(device)

        def loss_and_gradient(x: Tensor, t: Tensor) -> Tensor:
            log_p = torch.log_softmax(x @ on_device[0] + on_device[1], dim=1)
            error = log_p.exp() * t.sum(1, keepdim=True) - t
            return torch.cat([(error.T @ x).flatten(), error.sum(0), -(t * log_p).sum().view(1)])

        found = total(loss_and_gradient) / weight
        by_slopes, by_offset = found[: w.numel()].view(len(present), -1).T, found[w.numel() : -1]
        by_w = (by_slopes - mean[:, None] * by_offset) / scale[:, None] + l2 * w
        v.grad, bias.grad = whiten.T @ by_w, by_offset
        return float(found[-1] + l2 / 2 * w.square().sum())

    optimizer = torch.optim.LBFGS(
        [v, bias],
        max_iter=max_iterations,
        max_eval=2 * max_iterations,
        tolerance_grad=GRADIENT_TOLERANCE,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    steps = int(optimizer.state_dict()["state"][0]["n_iter"])
    weights = (whiten @ v).float()
    return Probe(mean.float(), scale.float(), weights, bias.float(), torch.from_numpy(present), steps)


def unscaled(probe: Probe, shift: Tensor, stretch: Tensor) -> Probe:
    """Return a probe of stored tokens as a probe of the features, stretch * token + shift."""
    return replace(probe, mean=probe.mean * stretch + shift, scale=probe.scale * stretch)
