"""Figures: what is drawn is what was measured, and it can stand in any page."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.analysis.fake_analysis import fake_analysis, fake_record
from unip.analysis.figures import (
    analysis_figures,
    plot_cka,
    plot_difference,
    plot_measure,
    plot_patterns,
    plot_probe,
    write_figure,
)
from unip.analysis.records import Summary
from unip.analysis.style import GROUP_COLOURS, PATTERN_COLOURS, model_styles
from unip.analysis.svg import inline_svg
from unip.errors import UnipError


def of(axes, gid):
    return [artist for artist in axes.get_children() if artist.get_gid() == gid]


def means(record, name):
    return [layer.measures[name].mean for layer in record.layers]


def legend_labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("pair", [False, True])
def test_a_measure_has_one_line_a_record_with_the_measured_values(pair):
    analysis = fake_analysis(3, pair=pair)
    figure = plot_measure(analysis, "distance")
    (axes,) = figure.axes
    lines = of(axes, "mean")
    assert len(lines) == len(analysis.models) == (6 if pair else 3)
    for line, record in zip(lines, analysis.models, strict=True):
        np.testing.assert_allclose(line.get_ydata(), means(record, "distance"))
        np.testing.assert_array_equal(line.get_xdata(), range(1, 13))
        assert line.get_linestyle() == ("--" if record.images == "visible" else "-")
    heads = of(axes, "heads")
    assert [len(dots.get_ydata()) for dots in heads] == [12 * record.layers[0].heads for record in analysis.models]
    assert axes.get_xlabel() == "layer"
    assert axes.get_ylabel().replace("\n", " ") == "attention distance (patches)"
    expected = "deit_tiny (infrared)" if pair else "deit_tiny"
    assert legend_labels(figure)[0] == expected


def test_the_band_is_the_deviation_over_images():
    record = fake_record()
    figure = plot_measure(replace(fake_analysis(1), models=[record]), "entropy")
    (band,) = figure.axes[0].collections
    first = record.layers[0].measures["entropy"]
    at_first = [y for x, y in band.get_paths()[0].vertices if x == 1]
    assert min(at_first) == pytest.approx(first.mean - first.std)
    assert max(at_first) == pytest.approx(first.mean + first.std)


def test_nmi_shows_target_bands_and_the_chosen_layers():
    analysis = fake_analysis(2)
    (axes,) = plot_measure(analysis, "nmi").axes
    drawn = {
        gid: of(axes, gid)[0].get_ydata()[0] for gid in ("local above 0.2", "hybrid target 0.09", "global below 0.05")
    }
    assert list(drawn.values()) == [0.2, 0.09, 0.05]
    chosen = [(int(ring.get_xdata()[0]), ring.get_ydata()[0]) for ring in of(axes, "chosen")]
    assert chosen == [(r.choice.layer, means(r, "nmi")[r.choice.layer - 1]) for r in analysis.models]


def test_models_of_different_depth_share_a_relative_axis():
    (axes,) = plot_measure(fake_analysis(2, depths=(12, 24)), "nmi").axes
    assert axes.get_xlabel().startswith("relative depth")
    first, second = of(axes, "mean")
    assert (len(first.get_xdata()), len(second.get_xdata())) == (12, 24)
    assert first.get_xdata()[-1] == second.get_xdata()[-1] == 1


def test_a_measure_nobody_has():
    with pytest.raises(UnipError, match="register_share"):
        plot_measure(fake_analysis(2), "register_share")


def test_undefined_values_leave_a_gap():
    analysis = fake_analysis(1)
    measures = analysis.models[0].layers[3].measures
    measures["distance"] = Summary(None, None, [None] * len(measures["distance"].per_head))
    (axes,) = plot_measure(analysis, "distance").axes
    assert np.isnan(of(axes, "mean")[0].get_ydata()).nonzero()[0].tolist() == [3]


def test_patterns_are_letters_and_the_chosen_layer_is_framed():
    analysis = fake_analysis(3)
    (axes,) = plot_patterns(analysis).axes
    letters = [text.get_text() for text in axes.texts]
    assert letters == [layer.pattern[0].upper() for record in analysis.models for layer in record.layers]
    assert {"L", "H", "G"} == set(letters)
    chosen = [record.choice.layer for record in analysis.models if record.choice.layer]
    assert [frame.get_x() + 0.5 for frame in of(axes, "chosen")] == chosen
    assert [label.get_text() for label in axes.get_yticklabels()] == ["deit_tiny", "dino_small", "mae_base"]


def test_cka_shows_the_matrix():
    record = fake_record(1)
    axes = plot_cka(record).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), record.cka)


def test_difference_is_visible_minus_infrared():
    analysis = fake_analysis(2, pair=True)
    (axes,) = plot_difference(analysis, "nmi").axes
    for line, number in zip(of(axes, "mean"), (0, 2), strict=True):
        infrared, visible = analysis.models[number : number + 2]
        np.testing.assert_allclose(line.get_ydata(), np.subtract(means(visible, "nmi"), means(infrared, "nmi")))
    with pytest.raises(UnipError, match="pair"):
        plot_difference(fake_analysis(1), "nmi")


@pytest.mark.parametrize("models", [1, 2, 3])
def test_probe_is_miou_over_nmi(models):
    analysis = fake_analysis(models, probe=True)
    axes = plot_probe(analysis).axes
    assert len(axes) == 2 * models
    for record, upper, lower in zip(analysis.models, axes[::2], axes[1::2], strict=True):
        scores = [100 * layer.miou for layer in record.probe.layers]
        np.testing.assert_allclose(of(upper, "mean")[0].get_ydata(), scores)
        np.testing.assert_allclose(of(lower, "mean")[0].get_ydata(), means(record, "nmi"))
        assert of(upper, "best")[0].get_xdata()[0] == 1 + int(np.argmax(scores)) == record.probe.best_layer
        assert len([patch for patch in upper.patches if patch.get_gid() in PATTERN_COLOURS]) == 12
    with pytest.raises(UnipError, match="probed"):
        plot_probe(fake_analysis(1))


def test_all_figures_come_in_reading_order():
    assert list(analysis_figures(fake_analysis(1))) == [
        "patterns", "nmi", "distance", "entropy", "class_share", "high_frequency", "cka-1",
    ]  # fmt: skip
    names = list(analysis_figures(fake_analysis(2, pair=True, probe=True, depths=(3, 3))))
    assert [name for name in names if name.startswith("cka")] == ["cka-1", "cka-2", "cka-3", "cka-4"]
    assert "difference-nmi" in names
    assert names[-1] == "probe"


def test_shares_where_grids_differ_and_registers_where_there_are_some():
    analysis = fake_analysis(2, depths=(3, 3))
    analysis.models[1] = replace(analysis.models[1], grid=(16, 16), registers=4)
    names = list(analysis_figures(analysis))
    assert names[1:6] == ["nmi", "distance_share", "entropy_share", "class_share", "register_share"]
    assert legend_labels(plot_measure(analysis, "register_share")) == ["dino_small"]


def test_cka_that_is_undefined_is_left_out():
    analysis = fake_analysis(1)
    analysis.models[0] = replace(analysis.models[0], cka=[[None] * 12] * 12)
    assert "cka-1" not in analysis_figures(analysis)


def test_models_look_different_and_groups_alike():
    styles = model_styles([replace(fake_record(), name=str(n), group="supervised") for n in range(3)])
    assert len(set(styles.values())) == 3
    assert {colour for colour, _ in styles.values()} == set(GROUP_COLOURS["supervised"])
    assert len({marker for _, marker in styles.values()}) == 3


def contrast(one, other):
    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    "colour", [c for shades in GROUP_COLOURS.values() for c in shades] + [*PATTERN_COLOURS.values()]
)
def test_colours_stand_out_from_light_and_dark(colour):
    assert contrast(colour, "#ffffff") > 3
    assert contrast(colour, "#111111") > 3
    if colour in PATTERN_COLOURS.values():
        assert contrast(colour, "#ffffff") > 4.5  # white letters stand on it


def test_a_notebook_shows_a_picture(tmp_path):
    figure = plot_patterns(fake_analysis(1))
    assert figure._repr_png_().startswith(b"\x89PNG")
    write_figure(tmp_path / "patterns.png", figure)
    assert (tmp_path / "patterns.png").read_bytes().startswith(b"\x89PNG")


def test_svgs_of_a_page_do_not_clash():
    figures = analysis_figures(fake_analysis(2, pair=True, probe=True, depths=(3, 3)))
    seen = set()
    for name, figure in figures.items():
        text = inline_svg(figure, name=name, label=f"<{name}>")
        root = ElementTree.fromstring(text)
        assert root.get("role") == "img"
        assert root.get("aria-label") == f"<{name}>"
        assert root.get("width") == "100%"
        assert "height" not in root.attrib
        assert len(root.get("viewBox").split()) == 4
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        links = {element.get("href") for element in root.iter() if element.get("href")}
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        wanted = {link[1:] for link in links if link.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", text))
        assert wanted == set(ids)
        assert all(link.startswith(("#", "data:image/png")) for link in links)
        assert "<style" not in text


def test_svg_text_takes_the_pages_colour_and_font():
    text = inline_svg(plot_measure(fake_analysis(2, pair=True, depths=(3, 3)), "nmi"), name="nmi", label="NMI")
    root = ElementTree.fromstring(text)
    words = list(root.iter("{http://www.w3.org/2000/svg}text"))
    assert {"NMI", "layer", "hybrid target 0.09", "deit_tiny (visible)"} <= {word.text for word in words}
    for word in words:
        assert "fill: currentColor" in word.get("style")
        assert "font-family" not in word.get("style")
    assert "#1a1b1f" not in text
    assert "#000000" not in text
    assert "#ffffff" not in text
    assert inline_svg(plot_measure(fake_analysis(2, pair=True, depths=(3, 3)), "nmi"), name="nmi", label="NMI") == text


@pytest.mark.parametrize("name", ["_hidden", "cost $5 to $6 \\frac", 'a <b> & "c"', "long" * 40])
def test_any_name_is_drawn_as_it_is(name):
    analysis = fake_analysis(1)
    analysis.models[0] = replace(analysis.models[0], name=name)
    for kind, figure in {"nmi": plot_measure(analysis, "nmi"), "patterns": plot_patterns(analysis)}.items():
        root = ElementTree.fromstring(inline_svg(figure, name=kind, label=name))
        words = [word.text for word in root.iter("{http://www.w3.org/2000/svg}text")]
        assert name in words or (len(name) > 60 and any("…" in word for word in words))
