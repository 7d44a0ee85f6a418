"""Figures that are made but not drawn, for tests that look at something else: matplotlib takes seconds a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unip.analysis.figures import write_picture


def leave_undrawn(patch: pytest.MonkeyPatch) -> None:
    """Let `unip analyze` write all of its figures empty."""

    def write_figure(path: Path, figure: object) -> None:
        write_picture(path, np.zeros((1, 1, 3), np.uint8))

    patch.setattr("unip.analysis.report.inline_svg", lambda figure, *, name, label: "<svg></svg>")
    patch.setattr("unip.analysis.program.write_figure", write_figure)
