"""From a suite to jobs: what each cell means, whether it is done, and the task that does it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unip.config import Config
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.settings import Places
from unip.errors import UnipError
from unip.files import read_json
from unip.outputs import write_json
from unip.paths import exists
from unip.pretraining.config import PretrainConfig
from unip.suites.config import INDEX
from unip.suites.identity import data_identity, images_identity, key_of, settings_identity, weights_identity
from unip.suites.records import RECORD, read_corrupted
from unip.suites.settings import check_settings
from unip.suites.suite import PRETRAINED, TRAINED_KINDS, Axes, Locations, Suite, budget_text
from unip.suites.tasks import DONE, RUN, CellTask, PretrainTask

# Settings of a cell that its result does not depend on: content counts, not places, and all labels are trained on.
UNUSED = frozenset({"model", "data", "images", "masks", "mask_suffix", "mask_orientation", "val_share", "group"})

Fill = Callable[[Any], Any]
Remaining = Literal["nothing", "corruptions", "all"]


@dataclass(eq=False)
class BenchPlan:
    """A suite with everything that its jobs share.

    Attributes:
        suite: What to run.
        locations: Where data and weights are.
        out: The bench's folder.
        device: Where to run.
        workers: Loader processes of each cell where it leaves them to us; None: as the cell decides.
        keep_models: Leave the model of each cell there.
        index: Key of each cell by its place in the grid, as far as known; kept in the bench's folder.
    """

    suite: Suite
    locations: Locations
    out: Path
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int | None = None
    keep_models: bool = True
    index: dict[str, str] = field(default_factory=dict)
    trained: dict[str, PretrainJob] = field(default_factory=dict)

    def __post_init__(self) -> None:
        file = self.out / INDEX
        self.index = read_json(file, dict[str, str]) if exists(file) else {}
        for name in self.suite.pretrain:
            self.pretraining(name, ())

    def pretraining(self, name: str, above: tuple[str, ...]) -> PretrainJob:
        """Return the job of a pre-training entry; one may start from another's student.

        Raises:
            UnipError: Entries need each other in a circle, or one that is not there.
        """
        if name in above or name not in self.suite.pretrain:
            what = "needs itself" if name in above else "is not there"
            raise UnipError(f"pre-training entry {name!r} {what}", f"There are: {', '.join(self.suite.pretrain)}.")
        if name not in self.trained:
            wanted = _named(self.suite.pretrain[name])
            if len(wanted) > 1:
                raise UnipError(f"pre-training entry {name!r} starts from several others", "Name one of them at most.")
            needs = self.pretraining(wanted[0], (*above, name)) if wanted else None
            self.trained[name] = PretrainJob(self, name, needs)
        return self.trained[name]

    def fill(self, value: Any) -> Any:
        """Put places and students into a setting."""
        if isinstance(value, str) and value.startswith(PRETRAINED):
            return str(self.trained[value.removeprefix(PRETRAINED)].folder() / RUN)
        if isinstance(value, list | tuple):
            return [self.fill(item) for item in value]
        return self.locations.fill(value)

    def missing(self, axes: Axes) -> list[str]:
        """Say which data and weights a cell lacks."""
        init, source = self.suite.inits[axes.init], self.suite.datasets[axes.dataset]
        protocol = self.suite.protocols[axes.protocol]
        lacks = self.locations.missing([init.model, source.data, init.settings, source.settings, protocol.settings])
        for job in self.trainings(axes):
            lacks += self.locations.missing(self.suite.pretrain[job.name])
        return list(dict.fromkeys(lacks))

    def check(self, cells: list[Axes]) -> None:
        """See that settings are known, and that the data has what the suite says of it, before any cell is trained.

        Data that cannot be opened is not refused: its cells fail alone, and say why.

        Raises:
            UnipError: A setting is unknown or does not fit, there are fewer images than labels that are asked for, or
                `group_by` matches no image.
        """
        for job in self.jobs(cells):
            if isinstance(job, PretrainJob):
                job.settings(self.locations.fill)
            else:
                job.draft(self.locations.fill)
        for name in dict.fromkeys(axes.dataset for axes in cells):
            source = self.suite.datasets[name]
            data = str(self.locations.fill(source.data))
            try:
                train, test = (
                    open_segmentation(data, split, remap=source.remap, places=Places.of(source))
                    for split in (source.train, source.test)
                )
            except UnipError:
                continue
            most = max(axes.label_budget for axes in cells if axes.dataset == name)
            if most > len(train):
                raise UnipError(
                    f"{budget_text(most)} labelled images of {name} are asked for, but {source.train or data} has "
                    f"{len(train)}",
                    "Ask for fewer, or for a share up to 1.0.",
                )
            names = [path.name for path in test.images]
            if source.group_by is not None and not any(re.search(source.group_by, image) for image in names):
                raise UnipError(
                    f"`group_by` of {name}, {source.group_by!r}, matches no image's name of {source.test or data}, "
                    f"such as "
                    f"{names[0]}",
                    "Correct it, or leave it out if no images belong together.",
                )

    def jobs(self, cells: list[Axes]) -> list[PretrainJob | CellJob]:
        """Return the jobs of some cells: first what is pre-trained for them, longest chains before all."""
        chains = [self.trainings(axes) for axes in cells]
        remaining: dict[PretrainJob, int] = {}  # how many trainings there are from one to the end of its chain
        for chain in chains:
            for place, job in enumerate(chain):
                remaining[job] = max(place, remaining.get(job, 0))
        first = sorted(remaining, key=lambda job: -remaining[job])
        return [*first, *(self.cell(axes) for axes in cells)]

    def trainings(self, axes: Axes) -> list[PretrainJob]:
        """Return the pre-training that a cell starts from, then what that starts from, and so on."""
        names = _named(self.suite.inits[axes.init].model)
        job = self.trained[names[0]] if names else None
        found = []
        while job is not None:
            found.append(job)
            job = job.needs
        return found

    def cell(self, axes: Axes) -> CellJob:
        """Return the job of a cell."""
        return CellJob(self, axes, next(iter(self.trainings(axes)), None))

    def remember(self, axes: Axes, key: str) -> None:
        """Note which key a cell has now, so that a report finds its result."""
        if self.index.get(str(axes)) != key:
            self.index[str(axes)] = key
            write_json(self.out / INDEX, self.index)


@dataclass(eq=False)
class PretrainJob:
    """A pre-training entry: run once for all cells that start from its student."""

    plan: BenchPlan
    name: str
    needs: PretrainJob | None

    def __str__(self) -> str:
        """Return its name in the suite."""
        return f"{PRETRAINED}{self.name}"

    def settings(self, fill: Fill) -> dict[str, Any]:
        """Return the settings of unip.pretrain, without the run folder.

        Args:
            fill: Puts in places, and students where they are needed.

        Raises:
            UnipError: One is unknown or does not fit.
        """
        given = {key: fill(value) for key, value in self.plan.suite.pretrain[self.name].items()}
        if isinstance(given.get("data"), str):
            given["data"] = [given["data"]]
        if self.plan.workers is not None:
            given = {"workers": self.plan.workers, **given}
        given = {"device": self.plan.device, **given}
        try:
            PretrainConfig.make(**given, out=Path("unused"))
        except UnipError as error:
            raise UnipError(f"{self}: {error.what}", error.fix) from None
        return given

    def folder(self) -> Path:
        """Return its folder, which is named after all that the student depends on."""
        settings = self.settings(self.plan.fill)
        config = PretrainConfig.make(**settings, out=Path("unused"))
        key = key_of(settings=settings_identity(config, but={"data"}), data=images_identity(config.data))
        return self.plan.out / "pretrain" / f"{self.name}-{key[:16]}"

    def done(self) -> bool:
        """Say whether there is a student."""
        return (self.needs is None or self.needs.done()) and exists(self.folder() / DONE)

    def pending_task(self) -> PretrainTask | None:
        """Return the task, or None if it is done."""
        if self.done():
            return None
        return PretrainTask(name=self.name, folder=self.folder(), settings=self.settings(self.plan.fill))


@dataclass(eq=False)
class CellJob:
    """A cell of the grid."""

    plan: BenchPlan
    axes: Axes
    needs: PretrainJob | None

    def __str__(self) -> str:
        """Return its place in the grid."""
        return str(self.axes)

    def draft(self, fill: Fill) -> tuple[CellTask, Config]:
        """Return the task as far as the suite says it, without key and folder, and its settings with their defaults.

        Args:
            fill: Puts in places, and students where they are needed.

        Raises:
            UnipError: A setting is unknown or does not fit.
        """
        plan, axes = self.plan, self.axes
        init, source = plan.suite.inits[axes.init], plan.suite.datasets[axes.dataset]
        protocol = plan.suite.protocols[axes.protocol]
        trained = protocol.kind in TRAINED_KINDS
        settings = {**protocol.settings, **(source.settings if trained else {}), **(init.settings if trained else {})}
        if trained and plan.workers is not None:
            settings = {**settings, "workers": plan.workers}
        choosing = bool(protocol.choose or settings.get("eval_every")) or protocol.kind == "layer_probe"
        task = CellTask(
            axes=axes,
            kind=protocol.kind,
            folder=plan.out,
            key="",
            settings={name: fill(value) for name, value in settings.items()},
            model=fill(init.model),
            data=fill(source.data),
            train=source.train,
            val=source.val if choosing else None,
            test=source.test,
            remap=source.remap,
            images=source.images,
            masks=source.masks,
            mask_suffix=source.mask_suffix,
            mask_orientation=source.mask_orientation,
            choose=protocol.choose,
            corruptions=plan.suite.corruptions_of(axes.protocol),
            device=plan.device,
            keep_model=plan.keep_models,
        )
        try:
            return task, check_settings(task)
        except UnipError as error:
            raise UnipError(f"{self}: {error.what}", error.fix) from None

    def task(self) -> CellTask:
        """Return the task with its key and folder; what it starts from must be there.

        Raises:
            UnipError: A setting, the data or the weights are wrong.
        """
        task, config = self.draft(self.plan.fill)
        splits = [name for name in (task.train, task.val, task.test) if name is not None]
        key = key_of(
            kind=task.kind,
            settings=settings_identity(config, but=UNUSED),
            choose=task.choose,
            label_budget=self.axes.label_budget,
            seed=self.axes.seed,
            model=weights_identity(task.model),
            data=[data_identity(task.data, split, task.remap, Places.of(task)) for split in splits],
        )
        return task.model_copy(update={"key": key, "folder": cell_folder(self.plan.out, self.axes, key)})

    def remaining(self) -> Remaining:
        """Say what of it is left to do, without changing anything.

        Raises:
            UnipError: As :meth:`task` does, if what it starts from is there.
        """
        return "all" if self.needs is not None and not self.needs.done() else _remaining(self.task())

    def pending_task(self) -> CellTask | None:
        """Return the task, or None if it is done."""
        task = self.task()
        self.plan.remember(self.axes, task.key)
        return None if _remaining(task) == "nothing" else task


def cell_folder(out: Path, axes: Axes, key: str) -> Path:
    """Return a cell's folder: by its key, so that a cell that was only renamed is found; else a new one."""
    short = key[:16]
    return next(iter(sorted((out / "cells").glob(f"*-{short}"))), out / "cells" / f"{axes}-{short}")


def _remaining(task: CellTask) -> Remaining:
    if not exists(task.folder / RECORD):
        return "all"
    return "nothing" if set(task.corruptions) <= set(read_corrupted(task.folder)) else "corruptions"


def _named(value: Any) -> list[str]:
    """Return the names of pre-training entries in a setting."""
    if isinstance(value, dict):
        return _named(list(value.values()))
    if isinstance(value, list | tuple):
        return list(dict.fromkeys(name for item in value for name in _named(item)))
    return [value.removeprefix(PRETRAINED)] if isinstance(value, str) and value.startswith(PRETRAINED) else []
