"""`unip bench`: inits x data sets x protocols x label budgets x seeds, each cell once, and tables of it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table as Shown

from unip.errors import Interrupted, UnipError
from unip.log import TableMessage
from unip.outputs import OutputFolder
from unip.paths import exists
from unip.progress import meter
from unip.runtime.signals import stop_on_signals
from unip.suites.config import PAGE, RESULTS, BenchConfig
from unip.suites.grid import BenchPlan, CellJob, PretrainJob, Remaining
from unip.suites.pool import Job, JobResult, VisibleDevice, Worker, close_all, find_devices, run_queue
from unip.suites.report import write_report
from unip.suites.results import cost_task, read_done
from unip.suites.suite import Axes, budget_text
from unip.suites.tables import ReportTable
from unip.suites.tasks import CostTask
from unip.training.feed import resolve_workers

log = logging.getLogger(__name__)

FAILURES_SHOWN = 5
SHOWN = 5  # columns of a results table on the terminal


@dataclass(frozen=True)
class BenchResult:
    """What came out.

    Attributes:
        out: The folder.
        results: The Parquet file with a row for each cell and each of its corruptions.
        report: The page.
        run: Cells that ran now.
        kept: Cells that were done before.
    """

    out: Path
    results: Path
    report: Path
    run: int
    kept: int


@dataclass(eq=False)
class CostJob:
    """A model whose cost is to be measured."""

    task: CostTask
    needs: Job | None = None

    def __str__(self) -> str:
        """Return what it measures."""
        return f"cost of {self.task.spec['decoder']} on {self.task.spec['backbone']}"

    def pending_task(self) -> CostTask | None:
        """Return the task, or None if it is done."""
        return None if exists(self.task.file) else self.task


@dataclass(frozen=True)
class BenchWork:
    """What is to be run, and where.

    Attributes:
        plan: The suite with its places.
        jobs: Pre-training first, then cells.
        devices: One for each worker process.
    """

    plan: BenchPlan
    jobs: list[PretrainJob | CellJob]
    devices: list[VisibleDevice]


def prepare(config: BenchConfig, plan: BenchPlan, cells: list[Axes]) -> BenchWork:
    """Find the devices, and the jobs of some cells.

    Raises:
        UnipError: GPUs are asked for and there are none.
    """
    devices = find_devices(config.device) * config.workers_per_device
    if len(devices) > 1:  # so that they share the cores
        plan.workers = min(16, resolve_workers("auto") // len(devices))
    return BenchWork(plan, plan.jobs(cells), devices)


def run(work: BenchWork, outputs: OutputFolder) -> BenchResult | None:
    """Run what is not done, measure what models cost, and write the report.

    Returns:
        The result, None where no cell is done.

    Raises:
        UnipError: Cells failed; the others are done.
        Interrupted: Stopped by a signal.
    """
    held = () if outputs.lock is None else (outputs.lock,)  # by workers that outlive a bench that is killed, too
    with stop_on_signals() as stop:
        workers = [Worker(device, sharing=len(work.devices), keep_open=held) for device in work.devices]
        try:
            ended = run_jobs(work.jobs, workers[: len(work.jobs)], lambda: bool(stop))
            if not stop:  # alone on the device, so that nothing else slows the model down
                ended += run_queue(cost_jobs(work.plan), workers[:1], lambda: bool(stop))
        finally:
            close_all(workers)
        done = [each for each in ended if isinstance(each.job, CellJob) and each.outcome.state == "done"]
        if stop:
            raise Interrupted(f"interrupted: {_progress(work, len(done))}", "Run the same command again to continue.")
    kept = sum(each.seconds is None for each in done)
    result = report(work.plan, run=len(done) - kept, kept=kept) if done else None
    _raise_failed([each for each in ended if each.failed], len(work.jobs), outputs.given)
    return result


def run_jobs(jobs: Sequence[Job], workers: list[Worker], stopped: Callable[[], bool]) -> list[JobResult]:
    """Run jobs, and log how each ends."""
    found = []
    with meter("bench", len(jobs), "jobs") as progress:
        for ended in run_queue(jobs, workers, stopped):
            found.append(ended)
            if ended.outcome.state != "interrupted":
                progress.advance(note=str(ended.job))
            if ended.failed:
                log.warning(f"failed: {ended.job}: {ended.outcome.what}")
            elif ended.outcome.state == "done" and ended.seconds is not None:
                log.info(f"{ended.job}: {ended.outcome.what}, {ended.seconds:.0f} s")
    return found


def _progress(work: BenchWork, done: int) -> str:
    cells = sum(isinstance(job, CellJob) for job in work.jobs)
    rest = "; the cost of models, and tables, are not" if done == cells else ""
    return f"{done} of {cells} cells are done{rest}"


def _raise_failed(failed: list[JobResult], jobs: int, out: Path) -> None:
    if failed:
        lines = [f"  {each.job}: {each.outcome.what.splitlines()[0]}" for each in failed[:FAILURES_SHOWN]]
        advice = (
            f"{failed[0].outcome.fix} The log of each is log.txt in its folder in {out}; the same command retries them."
        )
        raise UnipError("\n".join([f"{len(failed)} of {jobs} jobs failed:", *lines]), advice.strip())


def describe(work: BenchWork) -> None:
    """Print what of the grid is done, a line for all seeds."""
    plan = work.plan
    rows: dict[tuple[str, ...], dict[int, Remaining]] = defaultdict(dict)
    for job in work.jobs:
        if isinstance(job, PretrainJob):
            log.info(f"{job}: {'done' if job.done() else 'to do'}")
            continue
        axes = job.axes
        rows[axes.init, axes.dataset, axes.protocol, budget_text(axes.label_budget)][axes.seed] = job.remaining()
    table = Shown("init", "data set", "protocol", "labels", "seeds", "done", title=plan.suite.title)
    for names, seeds in rows.items():
        remaining = list(seeds.values())
        note = f", {count} but for corruptions" if (count := remaining.count("corruptions")) else ""
        table.add_row(*names, " ".join(map(str, seeds)), f"{remaining.count('nothing')} of {len(remaining)}{note}")
    log.info(TableMessage(table))
    cells = [remaining for seeds in rows.values() for remaining in seeds.values()]
    done = cells.count("nothing")
    log.info(
        f"dry run: {len(cells)} cells, {done} done; {len(work.devices)} at a time into {plan.out}; nothing was written"
    )


def cost_jobs(plan: BenchPlan) -> list[CostJob]:
    """Return the measurements of cost that are missing for the cells that are done, each once."""
    tasks = {task.key: task for task in (cost_task(plan, cell.record) for cell in read_done(plan))}
    return [CostJob(task) for task in tasks.values() if not exists(task.file)]


def report(plan: BenchPlan, *, run: int, kept: int | None) -> BenchResult:
    """Write everything that is made from the cells that are done.

    Raises:
        UnipError: None is.
    """
    done = read_done(plan)
    if not done:
        raise UnipError(f"no cell of the suite is done in {plan.out}", "Run the suite without --report-only first.")
    tables = write_report(plan.suite, done, plan.out)
    for table in tables:
        if table.head[0] == "init" and "seeds" in table.head:
            log.info(TableMessage(_shown(table)))
    wait = sum(len(cell.corrupted) < len(plan.suite.corruptions_of(cell.axes.protocol)) for cell in done)
    note = f", {wait} of them not yet under all corruptions" if wait else ""
    log.info(f"{len(done)} of {len(plan.suite.cells())} cells are done{note}. Tables and plot: {plan.out / PAGE}")
    return BenchResult(plan.out, plan.out / RESULTS, plan.out / PAGE, run, len(done) if kept is None else kept)


def _shown(table: ReportTable) -> Shown:
    """Return what of a table fits a terminal: seeds, both means, the difference."""
    width = min(SHOWN, len(table.head))
    shown = Shown(table.head[0], title=table.title)
    for name in table.head[1:width]:
        shown.add_column(name, justify="right")
    for row in table.rows:
        shown.add_row(*row[:width])
    return shown
