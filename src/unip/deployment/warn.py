"""Warnings that point to the line of the user's own code, not to one of unip's."""

from __future__ import annotations

import sys
import warnings


def warn(text: str) -> None:
    """Give a warning of Python at the line outside of unip that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "unip":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, UserWarning, stacklevel=level)
