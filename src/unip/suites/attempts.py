"""A task in a worker process: what it prints goes to its log, and how it went is an outcome."""

from __future__ import annotations

import gc
import os
import sys
import traceback

import torch

from unip.errors import Interrupted, UnipError
from unip.outputs import OutputFolder, output_folder, write_json
from unip.pretraining.config import PretrainConfig
from unip.pretraining.verbs import pretrain
from unip.suites.cells import run_cell
from unip.suites.cost import measure_cost
from unip.suites.tasks import DONE, RUN, CellTask, CostTask, Outcome, Task

LOG = "log.txt"


def attempt(task: Task) -> Outcome:
    """Run a task with its output in its log, and say how it went."""
    try:
        with output_folder(task.file.parent if isinstance(task, CostTask) else task.folder) as outputs:
            return _attempt(task, outputs)
    except UnipError as error:
        return Outcome(state="failed", what=error.what, fix=error.fix)


def _attempt(task: Task, outputs: OutputFolder) -> Outcome:
    log = outputs.path / LOG
    try:
        if outputs.state(LOG) == "foreign":  # else lines are added to it, whatever was before
            outputs.check(LOG)
        outputs.grow(LOG)  # before it is there: on a full disk it can be made, but not be listed any more
        opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        return Outcome(state="failed", what=f"cannot write {log}: {error.strerror}", fix="Choose another --out.")
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    os.close(opened)
    clear_traces()
    try:
        return Outcome(state="done", what=run(task))
    except Interrupted as error:
        return Outcome(state="interrupted", what=error.what)
    except UnipError as error:
        print(f"error: {error}", file=sys.stderr)
        return Outcome(state="failed", what=error.what[:1500], fix=error.fix[:500])
    except Exception as error:  # one cell's failure must not stop the others
        traceback.print_exc()
        last = f"{type(error).__name__}: {error}"[:1500]
        return Outcome(state="failed", what=last, fix=f"This is a bug in unip; see {log}.", fresh=True)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def run(task: Task) -> str:
    """Run a task; return the result in a few words."""
    if isinstance(task, CellTask):
        return run_cell(task)
    if isinstance(task, CostTask):
        write_json(task.file, vars(measure_cost(task)))
        return "measured"
    result = pretrain(PretrainConfig.make(**task.settings, out=task.folder / RUN))
    write_json(task.folder / DONE, {"loss": result.loss})
    return f"loss {result.loss:.4f}"


def clear_traces() -> None:
    """Undo what a task before may have left in this process, so that a cell does what it would do alone."""
    torch.set_float32_matmul_precision("highest")  # half-precision training allows TF32 for the rest
    torch.compiler.reset()  # else models of many shapes run into the limit of recompilations
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
