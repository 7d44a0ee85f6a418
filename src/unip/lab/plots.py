"""Plots and pictures of an analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from unip.attention.pictures import Picture
from unip.files import writing


def plot_nmi(records: list[dict[str, Any]], *, target: float) -> Figure:
    """Draw NMI over layers for each model of an analysis, the target and each recommended layer marked."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(target, color="grey", linestyle="--", linewidth=1, label=f"hybrid target {target:g}")
    for record in records:
        layers = [layer["layer"] for layer in record["layers"]]
        values = [layer["nmi"] for layer in record["layers"]]
        (line,) = axes.plot(layers, values, marker="o", markersize=4, label=short_name(record["model"]))
        chosen = record["choice"]["layer"]
        if chosen is not None:
            axes.plot(chosen, values[chosen - 1], marker="o", markersize=12, fillstyle="none", color=line.get_color())
    axes.set(xlabel="layer", ylabel="NMI", ylim=(0, None), title="NMI by layer (ringed: the layer to distil)")
    axes.legend(fontsize=8)
    return figure


def short_name(source: str) -> str:
    """A model's name without the folders of a file."""
    return Path(source).name if "/" in source and not source.startswith(("timm:", "hf:")) else source


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, whole or not at all."""
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def write_picture(path: Path, picture: Picture) -> None:
    """Write an RGB picture (H, W, 3) as PNG, whole or not at all."""
    with writing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
