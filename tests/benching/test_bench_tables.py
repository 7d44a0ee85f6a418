"""Tables as text."""

from __future__ import annotations

import math

from unip.benching.statistics import Interval, Spread
from unip.benching.tables import Table, limits, mean_sd, number

TABLE = Table("a_b, 10 %", ("start", "mIoU"), (("x|y & <z>", "1.0 ± 0.1"), ("m", "−3.0")), "A note.")


def test_markdown():
    lines = TABLE.markdown().splitlines()
    assert lines[0] == "### a_b, 10 %"
    assert lines[2:6] == ["| start | mIoU |", "| --- | ---: |", r"| x\|y & <z> | 1.0 ± 0.1 |", "| m | −3.0 |"]


def test_latex():
    text = TABLE.latex()
    assert r"\caption{a\_b, 10 \%. A note.}" in text
    assert r"x|y \& <z> & 1.0 $\pm$ 0.1 \\" in text
    assert r"m & $-$3.0 \\" in text
    for rule in ("toprule", "midrule", "bottomrule"):
        assert f"\\{rule}" in text


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
