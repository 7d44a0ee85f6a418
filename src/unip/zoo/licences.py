"""What a licence allows, as far as a program can say: whether commercial use is allowed, and under which conditions."""

from __future__ import annotations

import re
from typing import Literal

#: ``free``: commercial use, with attribution at most; ``conditions``: commercial use under terms of its own.
Terms = Literal["free", "conditions", "non-commercial", "not stated"]

_TERMS: tuple[tuple[Terms, str], ...] = (  # the first that fits counts
    ("non-commercial", r"\bnc\b|non-?commercial|research[- ]only|academic"),
    ("free", r"apache-?2|\bmit\b|\bbsd|\bcc0|\bcc-by-[\d.]+$|\bisc\b|\bunlicense\b|public domain|\bzlib\b"),
)


def terms_of(licence: str | None) -> Terms:
    """Say what a licence allows.

    Args:
        licence: Its name, best the SPDX identifier such as ``Apache-2.0`` or ``CC-BY-4.0``; None: none is stated.

    Returns:
        ``conditions`` for every name that is not known: somebody has to read it.
    """
    if licence is None or not licence.strip():
        return "not stated"
    text = licence.strip().lower().replace("_", "-").replace(" ", "-")
    return next((terms for terms, pattern in _TERMS if re.search(pattern, text)), "conditions")
