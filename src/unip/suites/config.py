"""The settings of `unip bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from unip.config import Config, NameOrPath
from unip.limits import MAX_PIXELS
from unip.runtime.settings import MaxPixels

RESULTS = "results.parquet"
INDEX = "index.json"
PAGE, MARKDOWN, LATEX_FILE, PLOT = "report.html", "tables.md", "tables.tex", "cost.png"
REPORT_FILES = (RESULTS, PAGE, MARKDOWN, LATEX_FILE, PLOT)


class BenchConfig(Config):
    """Which suite to run, on which data, with which weights."""

    suite: NameOrPath = Field(
        description="Suite file, or the name of a suite that ships, such as ten_minutes (`unip bench --recipes`)."
    )
    data: tuple[str, ...] = Field((), description="NAME=FOLDER for each {NAME} of the suite.")
    weights: Path | None = Field(None, description="Folder that {weights} stands for in the suite.")
    out: Path | None = Field(None, description="Where everything goes; default: runs/bench/ and the suite's name.")
    only: tuple[str, ...] = Field(
        (), description="Run only the cells whose name contains all of these texts; A,B means A or B."
    )
    skip_missing: bool = Field(False, description="Leave out cells whose data or weights are not given.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to run; auto: all GPUs, or the CPU.")
    workers_per_device: int = Field(1, ge=1, description="Cells that run at once on a device.")
    keep_models: bool = Field(True, description="Keep every cell's model, to analyse or evaluate it later.")
    report_only: bool = Field(False, description="Only make tables and plot again, from the cells that are done.")
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: bool = Field(False, description="Also replace tables and plots that were changed since.")
    dry_run: bool = Field(False, description="Show the grid and which cells are done, write nothing.")
