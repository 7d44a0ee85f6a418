"""How long the recipe quick takes from files to model: `unip finetune` as a process of its own, three times.

    python benchmarks/quick.py --data DATA/tir-ss

Seconds are those of the whole command, with the reading of all labels and without an evaluation; CPU seconds are user
and system together, which other work on the machine changes less. The load is that of the last minute.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from unip.files import read_yaml


def cpu_seconds() -> float:
    """Return the user and system seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the command, and print a line for each time and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--label-budget", type=float, default=150)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    table = Table("run", "seconds", "CPU seconds", "load", "flip", "short side", "steps")
    walls, cpus = [], []
    for number in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            settings = ["--data", options.data, "--label-budget", str(options.label_budget), "--seed", str(number)]
            settings += ["--recipe", "quick", "--minutes", str(options.minutes), "--device", "cpu", "--out", str(run)]
            begun, before = time.monotonic(), cpu_seconds()
            subprocess.run([sys.executable, "-m", "unip", "finetune", *settings], check=True)
            walls.append(time.monotonic() - begun)
            cpus.append(cpu_seconds() - before)
            made = read_yaml(run / "config.yaml")
        chosen = [f"{made['flip']:g}", str(made["base"][1]), str(made["steps"])]
        table.add_row(str(number), f"{walls[-1]:.0f}", f"{cpus[-1]:.0f}", f"{os.getloadavg()[0]:.1f}", *chosen)
    table.add_row("median", f"{statistics.median(walls):.0f}", f"{statistics.median(cpus):.0f}", *[""] * 4)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
