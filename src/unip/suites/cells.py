"""Running one cell: train or fit, choose on val where asked, evaluate on test once, and write it down.

```
CELL/run/         the run folder of unip finetune, or CELL/choice-N/ for each setting to choose from
CELL/evaluation/  of the test split
CELL/frames.npz   the confusion matrix of every test image
CELL/cell.json    everything that tables are made from; it is written last, and its presence means done
CELL/corrupted.json  scores on corrupted test images, by corruption
```
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from unip.data.grouping import guess_sequences
from unip.data.labelled.datasets import SegmentationData, check_segmentation, open_segmentation
from unip.data.labelled.drawing import choose_labels
from unip.data.labelled.settings import Places
from unip.deployment.verbs import evaluate
from unip.errors import UnipError
from unip.features.config import NeighbourSettings, ProbeSettings
from unip.features.logistic import train_probes
from unip.files import read_json
from unip.outputs import output_folder, writing
from unip.paths import is_dir
from unip.runtime.device import choose_device, device_name
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.evaluation import evaluate_corrupted
from unip.segmentation.metrics import percent, score
from unip.segmentation.model import SegmenterSpec
from unip.segmentation.probing import evaluate_probes, frozen_segmenter, segment_by_neighbours
from unip.segmentation.storage import load_segmenter
from unip.segmentation.verbs import finetune
from unip.suites.records import FRAMES, CellRecord, ScoresRecord, read_corrupted, write_corrupted
from unip.suites.settings import LayerSettings, choices, finetune_config
from unip.suites.suite import TRAINED_KINDS
from unip.suites.tasks import CellTask
from unip.training.run_folder import describe_environment
from unip.vit.backbone import load_backbone
from unip.vit.shape import check_layer, depth_of

Matrices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CellResult:
    """What training or fitting gave; the rest as in :class:`unip.suites.records.CellRecord`.

    Attributes:
        matrices: The confusion matrix of every test image, ``(images, C, C)``.
        images: Names of the test images' files.
        classes: Their names.
    """

    matrices: Matrices
    images: list[str]
    classes: tuple[str, ...]
    labelled_images: int
    train_seconds: float
    spec: SegmenterSpec
    chosen: dict[str, Any]
    run: str | None = None
    choice_val_miou: list[float] | None = None
    layers_miou: list[float] | None = None


def run_cell(task: CellTask) -> str:
    """Run what of a cell is not done yet; return the result in a few words.

    Raises:
        UnipError: As unip.finetune and unip.evaluate do.
        Interrupted: Stopped by a signal; running the same task again goes on.
    """
    record = CellRecord.read(task.folder)
    if record is None:
        begun = time.monotonic()
        result = _trained(task) if task.kind in TRAINED_KINDS else _fitted(task)
        with writing(task.folder / FRAMES) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, matrices=result.matrices, images=np.array(result.images))
        environment = describe_environment()
        record = CellRecord(
            key=task.key,
            axes=task.axes,
            kind=task.kind,
            split=task.test,
            **score(result.matrices.sum(0), result.classes).to_dict(),
            images=len(result.images),
            seconds=time.monotonic() - begun,
            device=device_name(choose_device(task.device)),
            versions={"python": environment.python, **environment.packages},
            labelled_images=result.labelled_images,
            train_seconds=result.train_seconds,
            spec=result.spec.model_dump(mode="json", exclude={"images"}),
            backbone_only=task.kind not in TRAINED_KINDS,
            chosen=result.chosen,
            run=result.run,
            choice_val_miou=result.choice_val_miou,
            layers_miou=result.layers_miou,
        )
        record.write(task.folder)
    _corrupted(task, record)
    return f"mIoU {percent(math.nan if record.miou is None else record.miou)}"


def _trained(task: CellTask) -> CellResult:
    """Fine-tune with every choice, keep the best on val, evaluate it on test."""
    offered = choices(task)
    runs = [task.folder / (f"choice-{n}" if task.choose else "run") for n in range(len(offered))]
    on_val: list[float] = []
    seconds = 0.0
    for choice, run in zip(offered, runs, strict=True):
        result = finetune(finetune_config(task, run, choice))
        seconds += result.training.seconds
        if task.choose:
            assert result.scores is not None
            on_val.append(result.scores.miou)
    best = int(np.argmax(on_val)) if task.choose else 0
    tested = evaluate(_evaluation(task, runs[best]))
    segmenter = load_segmenter(runs[best])
    info = read_json(runs[best] / "model" / "config.json")["info"]
    for run in runs:
        useless = run != runs[best] or (not task.keep_model and not task.corruptions)
        with output_folder(run) as outputs:
            outputs.remove("checkpoints", *(["model"] if useless else []))  # only a run that is not done needs them
    return CellResult(
        matrices=np.stack(list(tested.matrices.values())),
        images=[Path(name).name for name in tested.matrices],
        classes=tested.scores.names,
        labelled_images=info["labelled_images"],
        train_seconds=seconds,
        spec=segmenter.spec,
        chosen=offered[best],
        run=runs[best].name,
        choice_val_miou=on_val,
    )


def _evaluation(task: CellTask, run: Path, corruptions: tuple[str, ...] = ()) -> EvaluateConfig:
    return EvaluateConfig.make(
        model=run,
        data=task.data,
        remap=task.remap,
        images=task.images,
        masks=task.masks,
        mask_suffix=task.mask_suffix,
        mask_orientation=task.mask_orientation,
        split=task.test,
        window="slide",  # the paper's protocol
        out=task.folder / "evaluation",
        device=task.device,
        precision=task.settings.get("precision", "auto"),
        workers=task.settings.get("workers", "auto"),
        corruption=corruptions,
    )


def _corrupted(task: CellTask, record: CellRecord) -> None:
    """Evaluate under the corruptions that are not there yet; a stop loses one at most."""
    there = read_corrupted(task.folder)
    missing = tuple(name for name in task.corruptions if name not in there)
    if task.kind not in TRAINED_KINDS or not missing:
        return
    assert record.run is not None
    run = task.folder / record.run
    if not is_dir(run / "model"):
        raise UnipError(
            f"the model of {task.folder} was not kept, so it cannot be evaluated under {', '.join(missing)}",
            f"Delete {task.folder} to train it again.",
        )
    for each, scores in evaluate_corrupted(_evaluation(task, run, missing)):
        there[str(each)] = ScoresRecord.of(scores)
        write_corrupted(task.folder, there)
    if not task.keep_model:
        with output_folder(run) as outputs:
            outputs.remove("model")


def _open(task: CellTask, split: str | None) -> SegmentationData:
    return open_segmentation(task.data, split, remap=task.remap, places=Places.of(task))


def _fitted(task: CellTask) -> CellResult:
    """Fit a layer-wise probe or neighbours on frozen features, and test it."""
    device = choose_device(task.device)
    train = _open(task, task.train)
    if task.label_budget is not None:
        train = train.take(choose_labels(train, task.label_budget, task.seed, guess_sequences(train.images)))
    test = _open(task, task.test)
    if train.classes.names != test.classes.names:
        raise UnipError(
            f"{task.data}: the classes of {task.train} are not those of {task.test}",
            "Keep one classes.json beside the splits.",
        )
    check_segmentation(train)
    begun = time.monotonic()
    backbone = load_backbone(task.model)
    depth = depth_of(backbone.model)
    layers_miou = None
    if task.kind == "knn":
        neighbours = NeighbourSettings.make(**task.settings)
        layer = depth if neighbours.layer == "last" else neighbours.layer
        check_layer(backbone.model, layer)
        segmenter = frozen_segmenter(backbone, (layer,), train, neighbours.short_side).to(device)
        matrices = segment_by_neighbours(segmenter, train, test, neighbours, task.seed)
    else:
        settings = LayerSettings.make(**task.settings)
        segmenter = frozen_segmenter(backbone, tuple(range(1, depth + 1)), train, settings.short_side).to(device)
        probes = train_probes(segmenter, train, _probe_settings(task, settings))
        with torch.inference_mode():
            layer = settings.layer or _best_layer(task, segmenter, probes, settings)
            check_layer(backbone.model, layer)
            every = evaluate_probes(segmenter, probes, test, settings.batch_size)
        matrices = every[:, layer - 1]
        layers_miou = [score(total, train.classes.names).miou for total in every.sum(0)]
    spec: SegmenterSpec = segmenter.spec.model_copy(update={"layers": (layer,), "crop": segmenter.spec.short_side})
    return CellResult(
        matrices=matrices,
        images=[path.name for path in test.images],
        classes=train.classes.names,
        labelled_images=len(train),
        train_seconds=time.monotonic() - begun,
        spec=spec,
        chosen={"layer": layer},
        layers_miou=layers_miou,
    )


def _probe_settings(task: CellTask, settings: LayerSettings) -> ProbeSettings:
    own = settings.model_dump(exclude={"layer"})
    return ProbeSettings.make(data=task.data, remap=task.remap, seed=task.seed, **own)


def _best_layer(task: CellTask, segmenter: Any, probes: Any, settings: LayerSettings) -> int:
    val = _open(task, task.val)
    matrices = evaluate_probes(segmenter, probes, val, settings.batch_size).sum(0)
    return 1 + int(np.argmax([score(matrix, val.classes.names).miou for matrix in matrices]))
