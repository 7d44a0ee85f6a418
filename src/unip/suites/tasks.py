"""What a worker process is asked to do: JSON in, one line of JSON out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from unip.config import Config
from unip.data.labelled.settings import MaskOrientation
from unip.suites.suite import Axes, ProtocolKind, SpeedBatch

RUN, DONE = "run", "done.json"  # of pre-training: its run folder, and what is written when it is done


class PretrainTask(Config):
    """Run a pre-training entry, in ``folder/run``."""

    task: Literal["pretrain"] = "pretrain"
    name: str
    folder: Path
    settings: dict[str, Any]


class CellTask(Config):
    """Run a cell: train, choose on val where asked, and evaluate on test once.

    Attributes:
        axes: Its place in the grid: init, dataset, protocol, label budget, seed.
        kind: What the protocol is.
        folder: Where its run and its record go.
        key: Hash of all that its result depends on.
        settings: Of unip.finetune, or of the fit on frozen features.
        model: Source of the backbone.
        data: Source of the data set.
        train: Split to train on.
        val: Split to choose on.
        test: Split to evaluate on.
        remap: Changes of labels.
        images: Folder of the images in a plain folder, if it is given.
        masks: Folder of the masks.
        mask_suffix: What follows an image's name in its mask's.
        mask_orientation: What masks of images with an EXIF orientation fit.
        choose: Settings and their values to choose from on val.
        corruptions: To evaluate under as well, each as ``NAME:SEVERITY``.
        device: Where to run.
        keep_model: Leave the model's folder there.
    """

    task: Literal["cell"] = "cell"
    axes: Axes
    kind: ProtocolKind
    folder: Path
    key: str
    settings: dict[str, Any]
    model: str
    data: str
    train: str
    val: str | None
    test: str
    remap: tuple[str, ...]
    images: str | None = None
    masks: str | None = None
    mask_suffix: str | None = None
    mask_orientation: MaskOrientation | None = None
    choose: dict[str, list[Any]]
    corruptions: tuple[str, ...]
    device: Literal["auto", "cpu", "cuda"]
    keep_model: bool

    @property
    def label_budget(self) -> float | None:
        """Label budget as unip.finetune takes it."""
        return None if self.axes.label_budget == 1 else self.axes.label_budget

    @property
    def seed(self) -> int:
        """Seed of the choice of labels, of weights and of crops."""
        return self.axes.seed


class CostTask(Config):
    """Measure what a model costs."""

    task: Literal["cost"] = "cost"
    key: str
    file: Path
    spec: dict[str, Any]
    backbone_only: bool
    batch: SpeedBatch
    device: Literal["auto", "cpu", "cuda"]


Task = PretrainTask | CellTask | CostTask
TASK: TypeAdapter[Task] = TypeAdapter(Annotated[Task, Field(discriminator="task")])


class Outcome(Config):
    """How it went.

    Attributes:
        state: ``done``, ``failed``, ``interrupted``, or ``died`` (the process is gone).
        what: What came out, or what is wrong.
        fix: What to do about it.
        fresh: The process should not be used again.
    """

    state: Literal["done", "failed", "interrupted", "died"]
    what: str = ""
    fix: str = ""
    fresh: bool = False
