"""The page of an analysis: sections where there is something to say, nothing from the network, nothing unescaped."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup

from tests.analysis.fake_analysis import fake_analysis
from tests.analysis.undrawn import leave_undrawn
from unip.analysis.records import NoLayer, Summary
from unip.analysis.report import ExampleMaps, render_analysis
from unip.analysis.samples import UnreadableImage

ALWAYS = ["distil", "patterns", "measures", "cka", "numbers"]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects sections, links and text; fails where a tag is closed that is not open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sections, self.anchors, self.sources, self.ids, self.text = [], [], [], [], [], ""
        self.requests = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if values.get("id"):
            self.ids.append(values["id"])
            if tag == "h2":
                self.sections.append(values["id"])
        for key in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            if key in values and not values[key].startswith(("data:", "#")):
                self.requests.append((tag, key, values[key]))
        if tag == "a":
            self.anchors.append(values["href"][1:])
        if tag == "img":
            self.sources.append(values["src"])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


@pytest.fixture
def quick(monkeypatch):
    """Draw nothing: the test is about words."""
    leave_undrawn(monkeypatch)


def render(analysis, examples=(), explorer="", notes=()):
    text = render_analysis(analysis, examples=examples, explorer=Markup(explorer), notes=notes)
    page = Page(text)
    assert page.open == []
    assert page.requests == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.anchors) == set(page.sections)
    return text, page


def warned(record, warning):
    return replace(record, choice=replace(record.choice, warnings=(warning,)))


def maps():
    grey = np.full((32, 32, 3), 90, np.uint8)
    columns = ("image", "layer 3 (local)", "layer 8 (hybrid)")
    return ExampleMaps("deit_tiny, frame.png", columns, (("foreground", (grey,) * 3), ("background", (grey,) * 3)))


def test_a_plain_analysis_has_the_plain_sections():
    text, page = render(fake_analysis(1))
    assert page.sections == ALWAYS
    assert page.text.count("NMI") > 5
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'" in text
    assert "64 of 221 images of frames" in page.text
    assert "each model's own mean and deviation" in page.text
    assert len(text) < 400_000


def test_everything_has_its_section_in_reading_order():
    text, page = render(
        fake_analysis(2, pair=True, probe=True, depths=(4, 4)),
        [maps()],
        '<div id="explorer"><script>let a = 1 < 2;</script></div>',
        ["Mind this."],
    )
    assert page.sections == ["distil", "patterns", "explore", "maps", "measures", "cka", "pair", "probe", "numbers"]
    assert '<div id="explorer"><script>let a = 1 < 2;</script></div>' in text
    assert "Mind this." in page.text
    assert "3 images without a partner" in page.text
    assert len(page.sources) == 6
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    for words in ("layer 8 (hybrid)", "foreground", "deit_tiny, frame.png", "Dosovitskiy", "Park et al.", "Kornblith"):
        assert words in page.text
    assert len(text) < 1_500_000


def test_the_choice_is_stated_with_runner_up_and_margin(quick):
    analysis = fake_analysis(1)
    choice = analysis.models[0].choice
    _, page = render(analysis)
    assert f"layer {choice.layer} of 12" in page.text
    assert f"layer {choice.runner_up}, NMI" in page.text
    assert f"{choice.margin:.3f} nearer" in page.text
    assert f"layer {choice.peak}" in page.text
    assert all(number in page.text for number in ("0.09", "0.2", "0.05"))


def test_no_hybrid_layer_is_warned_about(quick):
    analysis = fake_analysis(3)
    stays_local = analysis.models[2]
    assert {layer.pattern for layer in stays_local.layers} == {"local"}
    text, page = render(analysis)
    assert page.text.count("no layer is hybrid") == 1
    assert 'class="warning">⚠ no layer is hybrid' in text

    none = NoLayer(None, "no layer to choose: it peaks at the end", ())
    analysis.models[2] = replace(stays_local, choice=none)
    text, page = render(analysis)
    assert 'class="warning">⚠ no layer is hybrid' in text
    assert "no layer to choose: it peaks at the end" in page.text


def test_warnings_and_skipped_images_are_shown(quick):
    analysis = fake_analysis(1)
    analysis.models[0] = warned(analysis.models[0], "near tie: layers 8 and 9")
    analysis.images.skipped.append(UnreadableImage("frames/a.tiff", "cannot be decoded"))
    _, page = render(analysis)
    assert "⚠ near tie: layers 8 and 9" in page.text
    assert "1 image skipped" in page.text
    assert "frames/a.tiff: cannot be decoded" in page.text


def test_what_users_name_is_escaped():
    analysis = fake_analysis(2, pair=True, probe=True, depths=(4, 4))
    bad = "<script>alert(1)</script>"
    analysis.models[:2] = [replace(record, name=bad, model=bad) for record in analysis.models[:2]]
    analysis.differences[0] = replace(analysis.differences[0], name=bad)
    analysis.images.sources[:] = [bad]
    analysis.images.skipped.append(UnreadableImage(bad, bad))
    analysis.models[0].probe.classes[1] = bad
    analysis.models[0] = warned(analysis.models[0], bad)
    text, page = render(analysis, [ExampleMaps(bad, (bad,), ((bad, (np.zeros((8, 8, 3), np.uint8),)),))], "", [bad])
    assert "<script" not in text
    assert page.text.count(bad) > 10


def test_the_tables_hold_the_numbers(quick):
    analysis = fake_analysis(1, probe=True)
    measures = analysis.models[0].layers[4].measures
    measures["nmi"] = Summary(0.12345, 0.01, [0.1, 0.2, 0.15])
    measures["distance"] = Summary(None, None, [None, None, None])
    measures["high_frequency"] = Summary(-1.5, 0.25, [])
    layers = analysis.models[0].probe.layers
    layers[4] = replace(layers[4], miou=0.4567)
    _, page = render(analysis)
    for words in ("0.123 ± 0.010", "0.100 to 0.200", "−1.500 ± 0.250", "45.7", "–"):
        assert words in page.text
    assert "NaN" not in page.text
    assert "None" not in page.text


@pytest.mark.parametrize("pair", [False, True])
def test_each_record_has_its_table_and_each_model_its_card(pair, quick):
    text, _ = render(fake_analysis(2, pair=pair))
    assert text.count('class="layer"') == 2
    assert text.count("<details") == (4 if pair else 2)
    assert ("on visible images" in text) == pair
