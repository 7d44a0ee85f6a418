"""The demo's page: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unip.analysis.records import Analysis
from unip.data.images.decoding import read_image8, to_rgb8
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.masks import MaskFile
from unip.data.labelled.overlay import draw_overlay
from unip.pages import data_uri, page_template


def render_demo_page(out: Path, results: dict[str, Any], analysis: Analysis, masks: dict[str, list[Path]]) -> str:
    """Return the page.

    Args:
        out: The demo's folder, with ``scenes``, ``analysis`` and ``distilled`` in it.
        results: Content of ``results.json``.
        analysis: Of the teacher.
        masks: Predicted masks of the first test frames, by init.
    """
    template = page_template("unip.demonstration", "page.html.j2")
    test = open_segmentation(out / "scenes", "test")
    classes = test.classes
    frames = []
    for index in range(len(masks["scratch"])):
        image = to_rgb8(test.read_image(index))
        visible = out / "scenes/test/visible" / test.images[index].name
        predicted = {init: MaskFile(paths[index]).read() for init, paths in masks.items()}
        frames.append(
            {
                "thermal": data_uri(image),
                "visible": data_uri(to_rgb8(read_image8(visible))),
                "truth": data_uri(draw_overlay(image, test.read_mask(index), classes)),
                **{init: data_uri(draw_overlay(image, mask, classes)) for init, mask in predicted.items()},
            }
        )
    model = analysis.models[0]
    rows = [
        {
            "init": init,
            "seeds": [f"{100 * value:.1f}" for value in values],
            "mean": f"{100 * np.mean(values):.1f}",
            "sd": f"{100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else "",
            "classes": ["–" if v is None else f"{100 * v:.1f}" for v in results["iou"][init]],
        }
        for init, values in results["miou"].items()
    ]
    newest = sorted((out / "distilled/pictures").glob("*.png"))[-1]
    return template.render(
        results=results,
        rows=rows,
        legend=[(name, "#{:02x}{:02x}{:02x}".format(*classes.palette[i])) for i, name in enumerate(classes.names)],
        layers=model.layers,
        choice=model.choice,
        frames=frames,
        nmi=picture(out / "analysis/figures/nmi.png", 800),
        maps=picture(next((out / "analysis/maps").glob("*.png")), 1600),
        comparison=picture(newest, 700),
    )


def picture(path: Path, width: int) -> str:
    """Return an image file as a data URI of at most ``width`` pixels."""
    return data_uri(to_rgb8(read_image8(path)), width)
