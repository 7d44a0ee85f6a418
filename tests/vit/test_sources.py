"""What a source means, whether or not it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from unip.vit.sources import Source, parse_source


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("unip_tiny", Source("student", "unip_tiny")),
        (" timm:vit_b.tag ", Source("timm", "vit_b.tag")),
        ("timm:vit_b.tag@a@b/c.pth", Source("timm", "vit_b.tag", file=Path("a@b/c.pth"))),
        ("hf:owner/name", Source("hf", "owner/name")),
        ("hf:owner/name@v1.0", Source("hf", "owner/name", revision="v1.0")),
        ("a/b@c.pth", Source("path", file=Path("a/b@c.pth"))),
        ("timm", Source("path", file=Path("timm"))),
        ("C:/a.pth", Source("path", file=Path("C:/a.pth"))),
    ],
)
def test_the_parts_of_a_source(text: str, source: Source) -> None:
    assert parse_source(text) == source


def test_only_a_timm_model_has_a_file_behind_the_at_sign() -> None:
    home = Path("~/a.pth").expanduser()
    assert parse_source("timm:vit_b@~/a.pth").file == home == parse_source("~/a.pth").file
    assert parse_source("hf:owner/name@~/a.pth").file is None
    assert parse_source("hf:owner/name@v1").repository == "owner/name@v1"
