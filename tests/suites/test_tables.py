"""Tables as text."""

from __future__ import annotations

import math
import re
import string
from pathlib import Path

import pytest

from unip.segmentation.intervals import Interval
from unip.suites.records import CellRecord, ScoresRecord
from unip.suites.results import DoneCell
from unip.suites.statistics import Spread
from unip.suites.suite import Axes
from unip.suites.tables import ReportTable, corruptions_table, limits, mean_sd, number

TABLE = ReportTable("a_b, 10 %", ("init", "mIoU"), (("x|y & <z>", "1.0 ± 0.1"), ("m", "−3.0")), "A note.")


def test_markdown():
    lines = TABLE.markdown().splitlines()
    assert lines[0] == r"### a\_b, 10 %"
    assert lines[2:6] == ["| init | mIoU |", "| --- | ---: |", r"| x\|y \& \<z\> | 1.0 ± 0.1 |", "| m | −3.0 |"]


def test_latex():
    text = TABLE.latex()
    assert r"\caption{a\_b, 10 \%. A note.}" in text
    assert r"x\textbar{}y \& \textless{}z\textgreater{} & 1.0 $\pm$ 0.1 \\" in text
    assert r"m & $-$3.0 \\" in text
    for rule in ("toprule", "midrule", "bottomrule"):
        assert f"\\{rule}" in text


NAMES = [
    *(f"a{c}b" for c in string.punctuation),
    "\\",
    "a\nb",
    "a\r\nb",
    "a\u2028b",
    "a--b",
    "[x]",
    "*",
    "<b>x</b>",
    "$x$",
    "a\\|b",
]
NAMES += ["`x|y`", "&amp;", "~~x~~", "_x_", "\\textbf{x}", "50 % & more"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are(name):
    """A name stays within its cell, and every character that means something is escaped."""
    plain = " ".join(name.splitlines())
    table = ReportTable(name, ("init", name), ((name, "1"), ("m", "2")), name)
    lines = table.markdown().splitlines()
    assert len(lines) == 8 and all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3 for line in lines[2:6])
    for text in (lines[0].removeprefix("### "), lines[4].split(" | 1 |")[0].removeprefix("| "), lines[7]):
        assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text) == plain
        assert not re.search(r"[`*_\[\]<>|~&$]", re.sub(r"\\.", "", text))
    lines = table.latex().splitlines()
    assert len(lines) == 12 and not lines[7].startswith(("[", "*"))
    assert len(re.findall(r"(?<!\\)&", lines[5])) == len(re.findall(r"(?<!\\)&", lines[7])) == 1
    shown = lines[7].removesuffix(r" & 1 \\")
    for said, meant in LATEX_SHOWS.items():
        shown = shown.replace(said, meant)
    assert re.sub(r"\\([&%$#_{}])", r"\1", shown).replace("\0", "\\") == plain


LATEX_SHOWS = {r"\textbackslash{}": "\0", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<"}
LATEX_SHOWS |= {r"\textgreater{}": ">", r"\textbar{}": "|", "-{}-": "--", "{[}": "[", "{]}": "]", "{*}": "*"}


def test_html():
    text = TABLE.html()
    assert "<td>x|y &amp; &lt;z&gt;</td><td>1.0 ± 0.1</td>" in text
    assert "<p>A note.</p>" in text


def test_numbers():
    assert (number(0.1234), number(None), number(math.nan), number(0.05, sign=True)) == ("12.3", "-", "-", "+5.0")
    assert mean_sd(Spread(0.5, math.nan, 1)) == "50.0"
    assert mean_sd(Spread(0.5, 0.01, 3)) == "50.0 ± 1.0"
    assert limits(Interval(0.1, -0.02, 0.22)) == "−2.0 to +22.0"
    assert limits(Interval(0.1, math.nan, math.nan)) == "-"


def test_corrupted_cells_count_when_they_are_whole():
    def cell(init, seed, clean, **corrupted):
        each = {name: ScoresRecord.model_construct(miou=miou) for name, miou in corrupted.items()}
        return DoneCell(Axes(init, "d", "p", 1.0, seed), Path(), CellRecord.model_construct(miou=clean), each, None)

    group = {
        "ours": [cell("ours", 0, 0.5, fog=0.4, rain=0.2), cell("ours", 1, 0.7, fog=0.6, rain=0.4)],
        "theirs": [cell("theirs", 0, 0.3, fog=0.1, rain=0.2), cell("theirs", 1, 0.9, fog=0.8)],
    }
    table = corruptions_table("p", group, ("fog", "rain"))
    assert table.rows == (
        ("seeds", "2", "1"),
        ("none", "60.0 ± 14.1", "30.0"),
        ("fog", "50.0 ± 14.1", "10.0"),
        ("rain", "30.0 ± 14.1", "20.0"),
        ("mean of the corruptions", "40.0 ± 14.1", "15.0"),
    )
    assert table.note == "Left out, as not yet evaluated under all of these: 1 of the cells."
    assert not corruptions_table("p", {"ours": group["ours"]}, ("fog", "rain")).note
    assert corruptions_table("p", {"theirs": group["theirs"][1:]}, ("fog", "rain")).rows[1] == ("none", "-")
