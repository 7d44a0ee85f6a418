"""Speed of the infrared corruptions: 640x512 frames a second on one core, at severity 1, 3 and 5.

python benchmarks/corruptions.py
python benchmarks/corruptions.py --seconds 3
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from unip.data.corruptions import CORRUPTIONS
from unip.data.corruptions.corruption import Corruption, Grey8


def make_frame() -> Grey8:
    """A smooth scene with sensor noise, which compresses about as thermal frames do."""
    rng = np.random.default_rng(0)
    knots = Image.fromarray(rng.integers(30, 226, (16, 20), dtype=np.uint8))
    scene = np.asarray(knots.resize((640, 512), Image.Resampling.BICUBIC))
    return np.clip(np.rint(scene + rng.normal(0, 2, scene.shape)), 0, 255).astype(np.uint8)


def rate(corruption: Corruption, severity: int, frame: Grey8, seconds: float) -> float:
    corruption(frame, severity, 0)
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        corruption(frame, severity, count)
        count += 1
    return count / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="Time for each number.")
    seconds = parser.parse_args().seconds
    table = Table("corruption", title="640x512 frames a second on one core")
    for severity in (1, 3, 5):
        table.add_column(f"severity {severity}", justify="right")
    frame = make_frame()
    for name, corruption in CORRUPTIONS.items():
        table.add_row(name, *(f"{rate(corruption, severity, frame, seconds):.0f}" for severity in (1, 3, 5)))
    Console().print(table)


if __name__ == "__main__":
    main()
