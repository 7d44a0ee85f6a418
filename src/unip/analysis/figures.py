"""Figures of an analysis: measures across layers, patterns, CKA, infrared against RGB, probes.

Every function takes an analysis (or one model's record of it) and returns a figure that a notebook shows;
``unip.analysis.svg.inline_svg`` puts it into a page.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from unip.analysis.records import Analysis, DifferenceRecord, LayerDifference, LayerRecord, ModelRecord, Thresholds
from unip.analysis.style import INK, PATTERN_COLOURS, STYLE, Figure, model_styles
from unip.attention.measuring import MEASURES
from unip.attention.pictures import Picture
from unip.errors import UnipError
from unip.outputs import writing
from unip.segmentation.probing import LayerProbes

Layer = LayerRecord | LayerDifference
Record = ModelRecord | DifferenceRecord

WIDTH = 6.6  # inches


def analysis_figures(analysis: Analysis) -> dict[str, Figure]:
    """Draw everything an analysis has, in reading order.

    Returns:
        By name: ``patterns``, the measures (distance and entropy as shares where the models' grids differ), ``cka-1``
        and so on by record, ``difference-MEASURE``, ``probe``.
    """
    records = analysis.models
    measures = shown_measures(records)
    figures = {"patterns": plot_patterns(analysis)}
    figures |= {name: plot_measure(analysis, name) for name in measures}
    figures |= {f"cka-{n}": plot_cka(r) for n, r in enumerate(records, 1) if has_cka(r)}
    if analysis.differences:
        figures |= {f"difference-{name}": plot_difference(analysis, name) for name in measures}
    if any(record.probe for record in records):
        figures["probe"] = plot_probe(analysis)
    return figures


@rc_context(STYLE)
def plot_measure(analysis: Analysis, name: str) -> Figure:
    """Draw a measure across the layers of all models.

    A line is the mean over images and heads, its band the standard deviation over images, a dot one head. A model
    without the tokens a measure is about is left out. NMI also gets its target, its bands and a ring around each chosen
    layer.

    Args:
        analysis: What `unip analyze` found.
        name: One of ``unip.attention.measuring.MEASURES``.

    Raises:
        UnipError: No model has this measure.
    """
    records = [record for record in analysis.models if has_measure(record, name)]
    if not records:
        raise UnipError(f"no model of this analysis has the measure {name}", f"Choose one of {', '.join(MEASURES)}.")
    figure, axes = _layer_axes(records, ylabel=MEASURES[name])
    styles = model_styles(analysis.models)
    relative = _relative(records)
    handles = []
    for record in records:
        line = _draw(axes, record.layers, name, styles[record.name], relative, record.images == "visible")
        handles.append((line, record_label(record)))
        chosen = record.choice.layer
        if name == "nmi" and chosen is not None:
            x, y = line.get_xdata()[chosen - 1], line.get_ydata()[chosen - 1]  # type: ignore[index]
            axes.plot(x, y, "o", markersize=13, fillstyle="none", color=line.get_color(), gid="chosen")
    axes.set_title(MEASURES[name] + " by layer" + (" (ringed: the layer to distil)" if name == "nmi" else ""))
    if name != "high_frequency":
        axes.set_ylim(bottom=0)
    if name == "nmi":
        _draw_thresholds(axes, analysis.thresholds)
    _legend(figure, handles)
    return figure


@rc_context(STYLE)
def plot_patterns(analysis: Analysis) -> Figure:
    """Draw the pattern of every layer, one row a model, as a letter on a colour; the chosen layer is framed."""
    records = analysis.models
    deepest = max(len(record.layers) for record in records)
    figure = Figure(figsize=(WIDTH, 0.75 + 0.36 * len(records)), layout="constrained")
    axes = figure.subplots()
    for row, record in enumerate(records):
        chosen = record.choice.layer
        for layer in record.layers:
            x, pattern = layer.layer, layer.pattern
            axes.add_patch(Rectangle((x - 0.46, row - 0.4), 0.92, 0.8, facecolor=PATTERN_COLOURS[pattern], gid=pattern))
            axes.text(x, row, pattern[0].upper(), ha="center", va="center", color="white", fontsize=8)
        if chosen is not None:
            axes.add_patch(
                Rectangle((chosen - 0.5, row - 0.46), 1, 0.92, fill=False, edgecolor=INK, linewidth=2.2, gid="chosen")
            )
    axes.set(xlim=(0.4, deepest + 0.6), ylim=(len(records) - 0.4, -0.6), xlabel="layer (framed: the one to distil)")
    axes.set_xticks(_ticks(deepest))
    axes.set_yticks(range(len(records)), [_wrapped(record_label(record), 26) for record in records])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    present = {layer.pattern for record in records for layer in record.layers}
    keys = [Rectangle((0, 0), 1, 1, facecolor=colour) for p, colour in PATTERN_COLOURS.items() if p in present]
    names = [f"{pattern[0].upper()} {pattern}" for pattern in PATTERN_COLOURS if pattern in present]
    figure.legend(keys, names, loc="outside upper center", ncols=3, handlelength=1, handleheight=1)
    return figure


@rc_context(STYLE)
def plot_cka(record: ModelRecord) -> Figure:
    """Draw how similar each two layers of a model are: CKA (layer, layer), mean over images, in [0, 1]."""
    values = np.asarray(record.cka, dtype=float)
    figure = Figure(figsize=(3.9, 3.5), layout="constrained")
    axes = figure.subplots()
    end = len(values) + 0.5
    # "none": a page scales the few pixels itself, with sharp edges
    image = axes.imshow(
        values, "viridis", vmin=0, vmax=1, origin="lower", extent=(0.5, end, 0.5, end), interpolation="none"
    )
    axes.set(xlabel="layer", ylabel="layer", title=_wrapped(record_label(record), 34))
    ticks = _ticks(len(values), most=12)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label="CKA", shrink=0.9)
    bar.outline.set_visible(False)
    return figure


@rc_context(STYLE)
def plot_difference(analysis: Analysis, name: str) -> Figure:
    """Draw by how much a measure is larger on the visible image of a pair than on the infrared one.

    Args:
        analysis: What `unip analyze` found on paired images.
        name: One of ``unip.attention.measuring.MEASURES``.

    Raises:
        UnipError: There are no pairs, or no model has this measure.
    """
    with_it = {record.name for record in analysis.models if has_measure(record, name)}
    differences = [difference for difference in analysis.differences if difference.name in with_it]
    if not differences:
        raise UnipError(f"no difference between paired images is there for the measure {name}", "Analyse with --pair.")
    figure, axes = _layer_axes(differences, ylabel="visible − infrared", height=2.6)
    axes.set_title(MEASURES[name])
    styles = model_styles(analysis.models)
    relative = _relative(differences)
    axes.axhline(0, color=INK, linewidth=0.8, gid="zero")
    _legend(
        figure,
        [(_draw(axes, d.layers, name, styles[d.name], relative, visible=False), d.name) for d in differences],
    )
    return figure


@rc_context(STYLE)
def plot_probe(analysis: Analysis) -> Figure:
    """Draw each probed model's mIoU above its NMI, layer by layer, on the colours of the layers' patterns.

    The layer that segments best is starred, the layer to distil ringed.
    """
    probed = [(record, record.probe) for record in analysis.models if record.probe]
    if not probed:
        raise UnipError("no model of this analysis was probed", "Give labelled images with --probe.")
    columns = min(2, len(probed))
    rows = math.ceil(len(probed) / columns)
    figure = Figure(figsize=(WIDTH, 3.6 * rows), layout="constrained")
    styles = model_styles(analysis.models)
    best_of_all = max(layer.miou or 0 for _, probe in probed for layer in probe.layers)
    largest_nmi = max(_means(record.layers, "nmi").max() for record, _ in probed)
    parts = figure.subfigures(rows, columns, squeeze=False).flat
    for part, (record, probe) in zip(parts, probed, strict=False):
        upper, lower = part.subplots(2, 1, sharex=True)
        _draw_probe(upper, lower, record, probe, styles[record.name])
        upper.set(ylim=(0, 118 * best_of_all), ylabel="mIoU (%)", title=_wrapped(record.name, 34))
        lower.set(ylim=(0, 1.18 * largest_nmi), ylabel="NMI", xlabel="layer")
    return figure


def _draw_probe(upper: Axes, lower: Axes, record: ModelRecord, probe: LayerProbes, style: tuple[str, str]) -> None:
    colour, marker = style
    nmi = _means(record.layers, "nmi")
    miou = 100 * np.array([layer.miou for layer in probe.layers], dtype=float)
    best, chosen = probe.best_layer, record.choice.layer
    for layer in record.layers:
        at, pattern = layer.layer, layer.pattern
        for axes in (upper, lower):
            axes.axvspan(at - 0.5, at + 0.5, color=PATTERN_COLOURS[pattern], alpha=0.18, linewidth=0, gid=pattern)
        upper.text(at, 0.98, pattern[0].upper(), transform=upper.get_xaxis_transform(), ha="center", va="top", size=7)
    upper.plot(range(1, len(miou) + 1), miou, color=colour, marker=marker, markersize=4, gid="mean")
    upper.plot(best, miou[best - 1], "*", markersize=15, color=colour, gid="best")
    lower.plot(range(1, len(nmi) + 1), nmi, color=colour, marker=marker, markersize=4, gid="mean")
    if chosen is not None:
        lower.plot(chosen, nmi[chosen - 1], "o", markersize=13, fillstyle="none", color=colour, gid="chosen")
    lower.set(xlim=(0.5, len(nmi) + 0.5), xticks=_ticks(len(nmi), most=12))


def shown_measures(records: Sequence[ModelRecord]) -> list[str]:
    """Name the measures worth a figure: those in plain units, or as shares where the models' grids differ.

    The shares of class and register tokens are named only where some model has such tokens.
    """
    unit = "_share" if len({record.grid for record in records}) > 1 else ""
    names = ["nmi", "distance" + unit, "entropy" + unit, "class_share", "register_share", "high_frequency"]
    return [name for name in names if any(has_measure(record, name) for record in records)]


def record_label(record: ModelRecord) -> str:
    """A model's name, and which image of a pair it was shown where there were pairs."""
    return record.name + ("" if record.images == "images" else f" ({record.images})")


def has_measure(record: ModelRecord, name: str) -> bool:
    """Whether a model has a measure: it is defined, and so are the tokens it is about."""
    has_tokens = {"class_share": record.class_token, "register_share": record.registers > 0}.get(name, True)
    return has_tokens and bool(np.isfinite(_means(record.layers, name)).any())


def has_cka(record: ModelRecord) -> bool:
    """Whether a record's CKA is defined (not on grids of fewer than four patches)."""
    return bool(np.isfinite(np.asarray(record.cka, dtype=float)).any())


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, whole or not at all."""
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def write_picture(path: Path, picture: Picture) -> None:
    """Write an RGB picture (H, W, 3) as PNG, whole or not at all."""
    with writing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def _means(layers: Sequence[Layer], name: str) -> npt.NDArray[np.float64]:
    """A measure's means over layers (depth,), NaN where it is undefined."""
    return np.array([layer.measures[name].mean for layer in layers], dtype=float)


def _relative(records: Sequence[Record]) -> bool:
    return len({len(record.layers) for record in records}) > 1


def _layer_axes(records: Sequence[Record], *, ylabel: str, height: float = 3.1) -> tuple[Figure, Axes]:
    """Make axes over layers, with room below for a legend of as many lines."""
    rows = math.ceil(len(records) / _legend_columns([record.name for record in records]))
    figure = Figure(figsize=(WIDTH, height + 0.19 * rows), layout="constrained")
    axes = figure.subplots()
    axes.grid(True)
    axes.set(ylabel=_wrapped(ylabel, 26), xlabel="layer")
    if _relative(records):
        axes.set(xlim=(0, 1.03), xlabel="relative depth (layer / number of layers; the models differ in depth)")
    else:
        depth = len(records[0].layers)
        axes.set_xlim(0.5, depth + 0.5)
        axes.set_xticks(_ticks(depth))
    return figure, axes


def _draw(
    axes: Axes, layers: Sequence[Layer], name: str, style: tuple[str, str], relative: bool, visible: bool
) -> Line2D:
    """Draw one model's line, its band and its heads; returns the line."""
    colour, marker = style
    mean, std = _means(layers, name), np.array([layer.measures[name].std for layer in layers], dtype=float)
    x = np.array([layer.layer for layer in layers], dtype=float) / (len(layers) if relative else 1)
    axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.09 if visible else 0.16, linewidth=0)
    heads = [(at, y) for at, layer in zip(x, layers, strict=True) for y in layer.measures[name].per_head]
    if heads:
        dots = np.array(heads, dtype=float)  # NaN for None
        axes.plot(dots[:, 0], dots[:, 1], ".", color=colour, markersize=3.6, alpha=0.65, mew=0, gid="heads")
    return axes.plot(
        x, mean, color=colour, marker=marker, markersize=4.5, linewidth=1.6, linestyle="--" if visible else "-",
        markerfacecolor="none" if visible else colour, gid="mean",
    )[0]  # fmt: skip


def _draw_thresholds(axes: Axes, thresholds: Thresholds) -> None:
    named = {
        f"local above {thresholds.local_above:g}": (thresholds.local_above, ":"),
        f"hybrid target {thresholds.target_nmi:g}": (thresholds.target_nmi, "--"),
        f"global below {thresholds.global_below:g}": (thresholds.global_below, ":"),
    }
    for text, (value, line) in named.items():
        axes.axhline(value, color=INK, linestyle=line, linewidth=0.9, gid=text, zorder=1)
    right = axes.secondary_yaxis("right")
    right.set_yticks([value for value, _ in named.values()], list(named))
    right.tick_params(length=0, labelsize=7)
    right.spines[:].set_visible(False)


def _legend(figure: Figure, handles: Sequence[tuple[Line2D, str]]) -> None:
    columns = _legend_columns([label for _, label in handles])
    lines, labels = zip(*handles, strict=True)
    figure.legend(
        lines, [_shortened(label) for label in labels], loc="outside lower center", ncols=columns, handlelength=3
    )


def _legend_columns(names: Sequence[str]) -> int:
    return min(len(names), 3 if max(map(len, names)) < 24 else 2 if max(map(len, names)) < 40 else 1)


def _ticks(depth: int, most: int = 16) -> list[int]:
    step = math.ceil(depth / most)
    return list(range(step, depth + 1, step))


def _wrapped(text: str, width: int) -> str:
    """Break a name into two lines at most."""
    return textwrap.fill(_shortened(text, 2 * width), width, break_on_hyphens=False)


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 + 1 :]}"
