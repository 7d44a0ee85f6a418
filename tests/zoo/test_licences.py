"""What licences allow."""

from __future__ import annotations

import pytest

from unip.zoo.licences import terms_of


@pytest.mark.parametrize(
    ("licence", "terms"),
    [
        ("Apache-2.0", "free"),
        ("apache-2.0", "free"),
        ("MIT", "free"),
        ("BSD-3-Clause", "free"),
        ("CC0-1.0", "free"),
        ("CC0 1.0", "free"),
        ("CC-BY-4.0", "free"),
        ("CC BY 4.0", "free"),
        ("CC-BY-NC-4.0", "non-commercial"),
        ("cc-by-nc-sa-4.0", "non-commercial"),
        ("research only", "non-commercial"),
        ("CC-BY-SA-4.0", "conditions"),
        ("DINOv3 License", "conditions"),
        ("GPL-3.0", "conditions"),
        ("submitted", "conditions"),  # holds "mit"
        ("", "not stated"),
        (None, "not stated"),
    ],
)
def test_terms(licence: str | None, terms: str) -> None:
    assert terms_of(licence) == terms
