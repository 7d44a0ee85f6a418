"""Whether an adapted start may take the place of the old one.

With labelled frames, linear probes decide (:mod:`unip.pretraining.label_probe`). Without labels nothing can say that
the new start is better; what frames alone can show is a collapse: tokens that span few directions, attention that no
longer depends on the query.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from unip.attention.measuring import measure_nmi
from unip.pretraining.label_probe import ProbeComparison, ProbeHalves, compare
from unip.vit.backbone import Backbone
from unip.vit.shape import prefix_tokens

LEAST_RANK = 0.5  # of the start's effective rank
LEAST_NMI = 0.5  # of the start's NMI, mean over layers
BATCH = 32


@dataclass(frozen=True)
class Health:
    """What frames without labels show of a backbone.

    Attributes:
        rank: Effective rank of the patch tokens behind the last norm, see :func:`effective_rank`.
        nmi: NMI of each layer's attention, mean over frames and heads.
    """

    rank: float
    nmi: tuple[float, ...]

    @property
    def mean_nmi(self) -> float:
        """Mean over the layers."""
        return math.fsum(self.nmi) / len(self.nmi)


@dataclass(frozen=True)
class Verdict:
    """Which weights a run saves, and why: ``guard.json``.

    Attributes:
        saved: The adapted weights, or those of the start as they were.
        by: What decided.
        reason: In a sentence.
        images: Frames without labels that were looked at.
        before: What they show of the start.
        after: What they show of the adapted weights.
        probes: What labelled frames say, if there are any.
    """

    saved: Literal["adapted", "start"]
    by: Literal["labels", "collapse"]
    reason: str
    images: int
    before: Health
    after: Health
    probes: ProbeComparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values; numbers that are not finite are None."""
        return {name: _finite(value) for name, value in asdict(self).items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def judge(
    old: Backbone, new: Backbone, frames: torch.Tensor, halves: ProbeHalves | None, *, held_out: bool = True
) -> Verdict:
    """Decide between two backbones.

    Args:
        old: The start.
        new: The adapted one, on the device to compute on.
        frames: Without labels, grey (N, 1, S, S) uint8.
        halves: Labelled frames, if there are any.
        held_out: Whether ``frames`` were not trained on.
    """
    device = next(new.model.parameters()).device
    old.model.to(device)
    before, after = (measure_health(each, frames) for each in (old, new))
    if problem := collapse(before, after):
        return Verdict("start", "collapse", problem, len(frames), before, after)
    if halves is None:
        kind = "held-out frames" if held_out else "frames, which were trained on"
        reason = (
            f"no collapse on {len(frames)} {kind}: effective rank {after.rank:.0f} (start {before.rank:.0f}), "
            f"NMI {after.mean_nmi:.3f} (start {before.mean_nmi:.3f}). Without labels that is all that is guarded; "
            "--probe-data lets labelled frames decide"
        )
        return Verdict("adapted", "collapse", reason, len(frames), before, after)
    probes = compare(old, new, halves, device)
    if not all(map(math.isfinite, (probes.difference, probes.low, probes.high))):
        return Verdict("start", "labels", undecided(probes), len(frames), before, after, probes)
    worse = probes.high < 0
    reason = (
        f"linear probes on {probes.images} labelled frames: {100 * probes.difference:+.1f} mIoU, 95 % interval "
        f"{100 * probes.low:+.1f} to {100 * probes.high:+.1f}, {'worse' if worse else 'not worse'} than the start"
    )
    return Verdict("start" if worse else "adapted", "labels", reason, len(frames), before, after, probes)


def undecided(probes: ProbeComparison) -> str:
    """Say why linear probes decide nothing: a number of theirs is not finite."""
    sides = {"the start": probes.before, "the new weights": probes.after}
    bad = [name for name, scores in sides.items() if not all(map(math.isfinite, scores))]
    why = (
        f"features or scores of {' and of '.join(bad)} are not finite"
        if bad
        else "no draw of them has a labelled patch, so there is no interval"
    )
    return f"linear probes on {probes.images} labelled frames decide nothing: {why}"


def collapse(before: Health, after: Health) -> str:
    """Say in what a backbone has collapsed beside the one before it; empty: in nothing."""
    for whose, health in (("its", after), ("the start's", before)):  # a start that cannot be compared with is kept, too
        if not all(map(math.isfinite, (health.rank, *health.nmi))):
            return f"{whose} features are not finite"
    if after.rank < LEAST_RANK * before.rank:
        return f"collapse: the effective rank of its tokens is {after.rank:.1f}, that of the start {before.rank:.1f}"
    if after.mean_nmi < LEAST_NMI * before.mean_nmi:
        return (
            f"collapse: its attention hardly depends on the query, NMI {after.mean_nmi:.4f}, that of the start "
            f"{before.mean_nmi:.4f}"
        )
    return ""


@torch.inference_mode()
def measure_health(backbone: Backbone, frames: torch.Tensor) -> Health:
    """Measure what frames without labels, grey (N, 1, S, S) uint8, show of a backbone."""
    model: Any = backbone.model.eval()
    nmi = measure_nmi(model, normalised(backbone, frames))
    tokens = [
        model.forward_features(images.to(next(model.parameters()).device))[:, prefix_tokens(model) :].flatten(0, 1)
        for images in normalised(backbone, frames)
    ]
    layers = tuple(nmi[layer].mean().item() for layer in sorted(nmi))
    return Health(effective_rank(torch.cat([each.cpu() for each in tokens])), layers)


def normalised(backbone: Backbone, frames: torch.Tensor) -> Iterable[torch.Tensor]:
    """Yield batches of frames as the backbone takes them, (B, 3, S, S)."""
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (backbone.mean, backbone.std))
    return ((part.expand(-1, 3, -1, -1) / 255 - mean) / std for part in torch.split(frames, BATCH))


def effective_rank(tokens: torch.Tensor) -> float:
    """Return the effective rank of tokens (N, C): exp of the entropy of their singular values, which add up to 1.

    Source: Roy and Vetterli, EUSIPCO 2007; used to tell collapsed features by RankMe (Garrido et al., ICML 2023, arXiv
    2210.02574). Tokens are centred first, so that what all share does not count.
    """
    if not tokens.isfinite().all():
        return math.nan
    centred = tokens.double() - tokens.double().mean(0)
    values = torch.linalg.eigvalsh(centred.T @ centred).clamp(min=0).sqrt()
    total = values.sum()
    if total == 0:
        return 1.0
    shares = values / total
    return float(torch.special.entr(shares).sum().exp())


def as_backbone(model: nn.Module, like: Backbone, normalisation: tuple[Any, Any]) -> Backbone:
    """Return a trained model as a backbone, for measuring it."""
    mean, std = normalisation
    return Backbone(model, like.spec, tuple(mean), tuple(std), like.input_size, like.source)
