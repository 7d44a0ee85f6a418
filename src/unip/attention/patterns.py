"""Name the pattern of each layer, and choose the hybrid one to distil."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unip.errors import UnipError

Pattern = Literal["local", "hybrid", "global"]

HYBRID_NMI = 0.09  # UNIP, section 4: where the best teachers' layers lie
LOCAL_ABOVE = 0.20  # our bands around it
GLOBAL_BELOW = 0.05
NEAR_TIE = 0.01  # images, crop and normalisation move a layer's NMI by 0.01-0.03


def name_patterns(
    nmi: Sequence[float], *, local_above: float = LOCAL_ABOVE, global_below: float = GLOBAL_BELOW
) -> list[Pattern]:
    """Label each layer: local up to the NMI peak or above ``local_above``, global below ``global_below``, else hybrid.

    Args:
        nmi: Mean NMI of layers 1, 2, ...
        local_above: Layers with a higher NMI are local.
        global_below: Layers after the peak with a lower NMI are global.
    """
    peak = _peak(nmi)
    return [
        "local" if layer <= peak or value > local_above else "global" if value < global_below else "hybrid"
        for layer, value in enumerate(nmi, start=1)
    ]


class NoHybridLayer(UnipError):
    """A model whose NMI peaks at its end, as that of masked-image models can: no layer to recommend."""


@dataclass(frozen=True)
class LayerChoice:
    """The layer to distil and how clear the choice is.

    Attributes:
        layer: 1-based.
        nmi: Its mean NMI.
        target: The NMI that was looked for.
        peak: The layer with the highest NMI; only layers after it were candidates.
        runner_up: The next nearest layer, or None when there was one candidate only.
        margin: How much nearer to the target the chosen layer is than the runner-up, in NMI.
        excluded: Layers that were left out on request.
        warnings: What the user should know before relying on the choice.
    """

    layer: int
    nmi: float
    target: float
    peak: int
    runner_up: int | None
    margin: float | None
    excluded: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def reason(self) -> str:
        """One sentence for people."""
        text = f"layer {self.layer} has the NMI ({self.nmi:.3f}) nearest to {self.target:g}"
        text += f" after the peak at layer {self.peak}"
        if self.excluded:
            text += f", layers {', '.join(map(str, self.excluded))} excluded"
        if self.runner_up is not None:
            text += f"; runner-up layer {self.runner_up}, {self.margin:.3f} farther from it"
        return text

    def as_json(self) -> dict[str, Any]:
        """The choice and its reason as JSON values."""
        return {**asdict(self), "reason": self.reason}


def choose_hybrid_layer(
    nmi: Sequence[float],
    *,
    target: float = HYBRID_NMI,
    exclude: Sequence[int] = (),
    near_tie: float = NEAR_TIE,
    local_above: float = LOCAL_ABOVE,
    global_below: float = GLOBAL_BELOW,
) -> LayerChoice:
    """Choose the layer whose NMI is nearest to ``target`` among those after the NMI peak (UNIP, section 4).

    The layers up to the peak are left out because the first ones can have a low NMI without being hybrid.

    Args:
        nmi: Mean NMI of layers 1, 2, ... measured on infrared images.
        target: The NMI of a hybrid layer.
        exclude: 1-based layers not to choose (for example, layers changed by fine-tuning).
        near_tie: Margins below this are warned about.
        local_above: Layers with a higher NMI are local, see :func:`name_patterns`.
        global_below: Layers after the peak with a lower NMI are global.

    Raises:
        NoHybridLayer: No layer is left to choose from.
        UnipError: ``exclude`` names a layer that is not there.
    """
    if wrong := [layer for layer in exclude if not 1 <= layer <= len(nmi)]:
        raise UnipError(f"excluded layer {wrong[0]} is out of range: this model has layers 1 to {len(nmi)}")
    peak = _peak(nmi)
    candidates = [layer for layer in range(peak + 1, len(nmi) + 1) if layer not in exclude]
    if not candidates and any(layer > peak for layer in exclude):
        raise NoHybridLayer(
            f"no layer to choose: all layers after the NMI peak at layer {peak} are excluded", "Exclude fewer layers."
        )
    if not candidates:
        raise NoHybridLayer(
            f"no layer to choose: the NMI peaks at layer {peak} of {len(nmi)} and nothing is left after it",
            "This model stays local; give the layer as a number, or use another teacher.",
        )
    ranked = sorted(candidates, key=lambda layer: (abs(nmi[layer - 1] - target), layer))
    best = ranked[0]
    runner_up = ranked[1] if len(ranked) > 1 else None
    margin = None if runner_up is None else abs(nmi[runner_up - 1] - target) - abs(nmi[best - 1] - target)
    warnings = []
    patterns = name_patterns(nmi, local_above=local_above, global_below=global_below)
    if "hybrid" not in patterns:
        warnings.append(f"no layer is hybrid: the nearest, layer {best}, has NMI {nmi[best - 1]:.3f}")
    elif patterns[best - 1] != "hybrid":  # the hybrid ones were excluded
        warnings.append(f"layer {best} is {patterns[best - 1]}, not hybrid")
    if runner_up is not None and margin is not None and margin < near_tie:
        warnings.append(
            f"near tie: layers {best} and {runner_up} differ by {margin:.3f}; other images may change the choice"
        )
    return LayerChoice(
        layer=best,
        nmi=nmi[best - 1],
        target=target,
        peak=peak,
        runner_up=runner_up,
        margin=margin,
        excluded=tuple(sorted(exclude)),
        warnings=tuple(warnings),
    )


def _peak(nmi: Sequence[float]) -> int:
    if not nmi:
        raise UnipError("no layer was measured")
    return max(range(1, len(nmi) + 1), key=lambda layer: nmi[layer - 1])
