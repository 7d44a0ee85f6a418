"""The contact sheet of `unip data check`: one HTML page that needs no other file."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence

import numpy as np

from unip.data.findings import FINDING_KINDS, Finding, SourceCount
from unip.data.images.decoding import Pixels8, read_image, to_rgb8
from unip.data.manifests.sources import printable
from unip.errors import UnipError
from unip.pages import data_uri, page_template

WIDTH = 220  # pixels of a picture
WITHOUT_PICTURE = ("unreadable", "damaged", "bomb")
LISTED = 200  # files without a picture that the page names


def render_check_page(
    sources: Sequence[str],
    images: int,
    table: Sequence[SourceCount],
    findings: Sequence[Finding],
    hints: Sequence[str],
    worst: int,
) -> str:
    """Return the page.

    Args:
        sources: As they were given.
        images: How many files were looked at.
        table: Counts by source.
        findings: By kind, worst first.
        hints: On whole sources.
        worst: How many pictures of each kind; two dozen take about 200 kB.
    """
    kinds = []
    picture = functools.cache(_picture)  # one file may be found wrong in several ways
    for kind, meaning in FINDING_KINDS.items():
        members = [finding for finding in findings if finding.kind == kind]
        if members:
            limit = LISTED if kind in WITHOUT_PICTURE else worst
            shown = [_frame(finding, picture) for finding in members[:limit]]
            kinds.append({"name": kind, "meaning": meaning, "count": len(members), "frames": shown})
    template = page_template("unip.data", "check.html.j2")
    bad = len({finding.path for finding in findings})
    return template.render(
        sources=[printable(source) for source in sources],
        images=images,
        bad=bad,
        table=table,
        kinds=kinds,
        hints=list(hints),
    )


def _frame(finding: Finding, picture: Callable[[bytes], str]) -> dict[str, str]:
    path = printable(finding.path)
    frame = {"path": path, "name": path.rsplit("/", 1)[-1], "source": finding.source, "detail": finding.detail}
    return frame | {"image": "" if finding.kind in WITHOUT_PICTURE else picture(finding.path)}


def _picture(path: bytes) -> str:
    try:
        image: Pixels8 = to_rgb8(read_image(os.fsdecode(path)))
    except UnipError:
        return ""  # it is gone by now
    return data_uri(np.ascontiguousarray(image), WIDTH)
