"""Reading back what cells wrote, and the one Parquet file of all of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from unip.files import read_json
from unip.opening import open_regular
from unip.outputs import writing
from unip.paths import exists
from unip.suites.config import RESULTS
from unip.suites.cost import Cost
from unip.suites.grid import BenchPlan, cell_folder
from unip.suites.identity import key_of
from unip.suites.records import FRAMES, CellRecord, ScoresRecord, read_corrupted
from unip.suites.statistics import floor
from unip.suites.suite import Axes
from unip.suites.tasks import CostTask

CLEAN = "none"

SCHEMA: Any = pa.schema(
    [
        *((name, pa.string()) for name in ("init", "dataset", "protocol", "kind")),
        ("label_budget", pa.float64()),
        ("labelled_images", pa.int64()),
        ("seed", pa.int64()),
        ("corruption", pa.string()),
        ("severity", pa.int64()),
        ("split", pa.string()),
        ("images", pa.int64()),
        *((name, pa.float64()) for name in ("miou", "foreground_miou", "mean_accuracy", "pixel_accuracy")),
        ("classes", pa.list_(pa.string())),
        ("iou", pa.list_(pa.float64())),
        ("floor_class", pa.string()),
        ("floor_miou", pa.float64()),
        ("floor_foreground_miou", pa.float64()),
        ("layers_miou", pa.list_(pa.float64())),
        ("seconds", pa.float64()),
        ("train_seconds", pa.float64()),
        ("flops", pa.int64()),
        ("parameters", pa.int64()),
        ("images_per_second", pa.float64()),
        ("speed_batch", pa.int64()),
        ("speed_size", pa.int64()),
        ("speed_precision", pa.string()),
        ("speed_device", pa.string()),
        ("device", pa.string()),
        ("versions", pa.string()),
        ("chosen", pa.string()),
        ("key", pa.string()),
        ("folder", pa.string()),
    ]
)


@dataclass(frozen=True)
class DoneCell:
    """A cell that is done.

    Attributes:
        axes: Its place in the grid.
        folder: Where it lies.
        record: What it wrote.
        corrupted: Its scores on corrupted images by ``NAME:SEVERITY``.
        cost: What its model costs, as far as that is measured.
    """

    axes: Axes
    folder: Path
    record: CellRecord
    corrupted: dict[str, ScoresRecord]
    cost: Cost | None

    @property
    def names(self) -> list[str]:
        """Names of the classes."""
        return [row.name for row in self.record.classes]

    def floor(self) -> tuple[str, ScoresRecord]:
        """Return the class and the scores of predicting one class everywhere."""
        name, scores = floor(np.array(self.record.confusion_matrix, np.int64), self.names)
        return name, ScoresRecord.of(scores)

    def frames(self) -> npt.NDArray[np.int64]:
        """Return the confusion matrices of the test images, ``(images, C, C)``."""
        with open_regular(self.folder / FRAMES) as opened, np.load(opened) as file:
            found: npt.NDArray[np.int64] = file["matrices"]
        return found

    def images(self) -> list[str]:
        """Return the names of the test images' files."""
        with open_regular(self.folder / FRAMES) as opened, np.load(opened) as file:
            return [str(name) for name in file["images"]]


def read_done(plan: BenchPlan) -> list[DoneCell]:
    """Return the cells of a suite that are done, in the grid's order."""
    found = []
    for axes in plan.suite.cells():
        key = plan.index.get(str(axes))
        folder = cell_folder(plan.out, axes, key) if key else plan.out
        record = CellRecord.read(folder) if key else None
        if record is None:
            continue
        there = read_corrupted(folder)
        corrupted = {name: there[name] for name in plan.suite.corruptions_of(axes.protocol) if name in there}
        file = cost_task(plan, record).file
        found.append(DoneCell(axes, folder, record, corrupted, read_json(file, Cost) if exists(file) else None))
    return found


def cost_task(plan: BenchPlan, record: CellRecord) -> CostTask:
    """Return the task that measures what a cell's model costs."""
    own = {"spec": record.spec, "backbone_only": record.backbone_only, "batch": plan.suite.speed_batch}
    key = key_of(**own)
    return CostTask(key=key, file=plan.out / "costs" / f"{key[:16]}.json", device=plan.device, **own)


def rows(done: list[DoneCell], out: Path) -> list[dict[str, Any]]:
    """Return one row for each cell, and one for each of its corruptions, with the columns of ``SCHEMA``."""
    found = []
    for cell in done:
        name, lowest = cell.floor()
        record = cell.record
        common = {
            **vars(cell.axes),
            **record.model_dump(
                include={"kind", "labelled_images", "split", "images", "device", "key", "seconds", "train_seconds"}
            ),
            **(vars(cell.cost) if cell.cost else {}),
            "classes": cell.names,
            "floor_class": name,
            "floor_miou": lowest.miou,
            "floor_foreground_miou": lowest.foreground_miou,
            "versions": json.dumps(record.versions),
            "chosen": json.dumps(record.chosen),
            "folder": str(cell.folder.relative_to(out)),
        }
        every: dict[str, ScoresRecord] = {CLEAN: record, **cell.corrupted}
        for corruption, scores in every.items():
            kind, _, severity = corruption.partition(":")
            found.append(
                {
                    **common,
                    "corruption": kind,
                    "severity": int(severity) if severity else 0,
                    **scores.model_dump(include={"miou", "foreground_miou", "mean_accuracy", "pixel_accuracy"}),
                    "iou": [row.iou for row in scores.classes],
                    "layers_miou": record.layers_miou if corruption == CLEAN else None,
                }
            )
    return found


def write_results(done: list[DoneCell], out: Path) -> None:
    """Write all rows as one Parquet file."""
    with writing(out / RESULTS) as temporary:
        pq.write_table(pa.Table.from_pylist(rows(done, out), schema=SCHEMA), temporary)
