"""`unip bench`: what the suite, settings and paths can refuse comes before torch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from unip.config import verb
from unip.errors import UnipError
from unip.outputs import output_folder
from unip.recipes import find_recipe
from unip.suites.config import INDEX, REPORT_FILES, BenchConfig
from unip.suites.suite import Axes, Locations, read_suite

if TYPE_CHECKING:
    from unip.suites.grid import BenchPlan
    from unip.suites.program import BenchResult

log = logging.getLogger(__name__)


@verb(BenchConfig)
def bench(config: BenchConfig) -> BenchResult | None:
    """Run what of a suite is not done, then make its tables.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: The suite is wrong, data or weights are missing, or cells failed (the others are done).
        Interrupted: Stopped by a signal; the same call continues.
    """
    file = find_recipe(config.suite, "bench")
    out = config.out or Path("runs/bench") / file.stem
    alone = not config.report_only  # tables may be made while a bench is at work
    with output_folder(out, overwrite=config.overwrite, dry_run=config.dry_run, exclusive=alone) as outputs:
        outputs.check(*REPORT_FILES, INDEX)
        suite = read_suite(file)
        from unip.suites.grid import BenchPlan  # needs numpy

        plan = BenchPlan(
            suite, Locations(config.data, config.weights), out, config.device, keep_models=config.keep_models
        )
        if config.report_only:
            from unip.suites.program import report  # needs torch

            return report(plan, run=0, kept=None)
        plan.locations.check(suite)
        cells = chosen_cells(plan, config)
        plan.check(cells)
        from unip.suites.program import describe, prepare, run  # needs torch

        work = prepare(config, plan, cells)
        if config.dry_run:
            describe(work)
            return None
        return run(work, outputs)


def chosen_cells(plan: BenchPlan, config: BenchConfig) -> list[Axes]:
    """Return the cells to run.

    Raises:
        UnipError: There are none, or data or weights are missing.
    """
    every = plan.suite.cells()
    wanted = [[part for text in word.split(",") if (part := text.strip())] for word in config.only]
    cells = [axes for axes in every if all(any(text in str(axes) for text in texts) for texts in wanted)]
    useless = [text for texts in wanted for text in texts if not any(text in str(axes) for axes in every)]
    if useless or not cells:
        lacking = useless[0] if useless else f"all of {' '.join(config.only)}"
        some = ", ".join(map(str, every[:3]))
        raise UnipError(
            f"no cell's name contains {lacking}",
            f"Cells have names such as {some}, ... Join alternatives by commas.",
        )
    lacks = {axes: plan.missing(axes) for axes in cells}
    missing = list(dict.fromkeys(text for texts in lacks.values() for text in texts))
    if not missing:
        return cells
    left = [axes for axes in cells if not lacks[axes]]
    if config.skip_missing and left:
        log.info(f"left out for what is missing: {len(cells) - len(left)} of {len(cells)} cells ({', '.join(missing)})")
        return left
    lines = [f"  {text}, for {sum(text in texts for texts in lacks.values())} cells" for text in missing]
    raise UnipError(
        "\n".join([f"{config.suite} needs data or weights that are not there:", *lines]),
        "Give them: without them, no chosen cell is left."
        if config.skip_missing
        else "Give them, choose cells with --only, or leave those cells out with --skip-missing.",
    )
