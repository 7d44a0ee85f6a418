"""Linear probes with features computed once, beside the same probes that run the backbone at every step.

    python benchmarks/finetune.py --data DATA/hit-uav --model timm:deit_tiny_patch16_224@FILE

The same settings, labels and seeds, in turn; only `--cache-features` differs. Seconds are those of `unip finetune` from
its first step on, with the computing of features, without checking the data and without evaluating. The scores are
those of `unip evaluate` on val, each frame as one window; their spread over seeds is what a difference must be held
against.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import unip


def run(settings: dict[str, Any], cached: bool, folder: Path) -> tuple[float, float]:
    """Train and evaluate one probe; return its seconds and its mIoU in percent."""
    unip.finetune(**settings, cache_features=cached, out=folder)
    seconds = time.time() - (folder / "environment.json").stat().st_mtime  # written when data and settings are checked
    how = {"split": "val", "window": "whole", "worst": 0, "device": settings["device"]}
    result = unip.evaluate(model=folder, data=settings["data"], **how)
    return seconds, 100 * result.scores.miou


def main() -> None:
    """Run both ways with every number of steps and every seed, and print one table."""
    unip.log.show()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--label-budget", type=float, default=40)
    parser.add_argument("--steps", type=int, nargs="+", default=[400])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--base", type=int, nargs=2, default=[1280, 512])
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    table = Table("steps", "seed", "features", "seconds", "ratio", "val mIoU")
    means: list[str] = []
    for steps in options.steps:
        times: dict[bool, list[float]] = {False: [], True: []}
        scores: dict[bool, list[float]] = {False: [], True: []}
        for seed in options.seeds:
            for cached in times:
                settings = {
                    **{name: getattr(options, name) for name in ("data", "model", "label_budget", "crop", "device")},
                    **{"mode": "linear", "recipe": "fast", "ratio": (1.0, 1.0), "tensorboard": False},
                    **{"base": tuple(options.base), "steps": steps, "seed": seed, "log_every": 50},
                }
                with tempfile.TemporaryDirectory() as folder:
                    seconds, miou = run(settings, cached, Path(folder) / "run")
                times[cached].append(seconds)
                scores[cached].append(miou)
                ratio = f"{times[False][-1] / seconds:.1f}"
                how = "computed once" if cached else "at every step"
                table.add_row(str(steps), str(seed), how, f"{seconds:.1f}", ratio, f"{miou:.1f}")
        faster = statistics.mean(times[False]) / statistics.mean(times[True])
        apart = statistics.mean(scores[True]) - statistics.mean(scores[False])
        spread = max(max(found) - min(found) for found in scores.values())
        means.append(f"{steps} steps: {faster:.1f} times as fast, mIoU {apart:+.1f}, seeds spread {spread:.1f}")
    Console(width=120).print(table, *means, sep="\n")


if __name__ == "__main__":
    main()
