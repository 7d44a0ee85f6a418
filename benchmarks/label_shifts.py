"""How well `unip data check` finds masks that are off by a few pixels.

    python benchmarks/label_shifts.py --data DATA/tir-ss --splits train val test

Every split is measured as it is: frames that are reported are false alarms if its masks are right. Then the masks of
every tenth frame are moved, and those of all frames together.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from unip.data.images.decoding import Pixels8, to_grey8
from unip.data.labelled.alignment import EdgeFit, edge_fit, frame_shifts, set_shift
from unip.data.labelled.datasets import open_segmentation
from unip.runtime.workers import usable_cores

SHIFTS = ((0, 0), (6, 0), (0, 6), (-6, 6), (8, -4), (10, 0), (12, 12), (-20, 0))  # pixels right and down
EVERY = 10  # frames, of which one is moved


def moved(mask: Pixels8, right: int, down: int) -> Pixels8:
    """Return a mask that is moved, its edges repeated."""
    rows = np.clip(np.arange(mask.shape[0]) - down, 0, mask.shape[0] - 1)
    columns = np.clip(np.arange(mask.shape[1]) - right, 0, mask.shape[1] - 1)
    return mask[rows][:, columns]


def measure(source: str, split: str) -> list[list[EdgeFit | None]]:
    """Return the fits of each frame of a split, one for each of ``SHIFTS``."""
    data = open_segmentation(source, split or None)

    def fits(index: int) -> list[EdgeFit | None]:
        pair = data.read(index)
        grey = to_grey8(pair.image)
        return [edge_fit(grey, moved(pair.mask, *shift)) for shift in SHIFTS]

    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(fits, range(len(data))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as for unip finetune")
    parser.add_argument("--splits", nargs="+", default=["train", "val", "test"])
    given = parser.parse_args()
    table = Table("split", "masks moved by", "found of every tenth frame", "false alarms", "all frames moved")
    for split in given.splits:
        fits = measure(given.data, split)
        for number, shift in enumerate(SHIFTS):
            chosen = set(range(0, len(fits), EVERY)) if number else set()
            found = frame_shifts([row[number if i in chosen else 0] for i, row in enumerate(fits)])
            hits = f"{len(chosen & set(found))} of {len(chosen)}" if number else ""
            whole = set_shift([row[number] for row in fits])
            false = f"{len(set(found) - chosen)} of {len(fits) - len(chosen)}"
            table.add_row(
                f"{Path(given.data).name} {split}", str(shift), hits, false, f"better {whole}" if whole else ""
            )
    Console().print(table)


if __name__ == "__main__":
    main()
