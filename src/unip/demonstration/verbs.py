"""`unip demo`: what settings and the folder can refuse comes before torch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from unip.config import verb
from unip.demonstration.config import INITS, DemoConfig
from unip.outputs import output_folder

if TYPE_CHECKING:
    from unip.demonstration.program import DemoResult

log = logging.getLogger(__name__)


@verb(DemoConfig)
def demo(config: DemoConfig) -> DemoResult | None:
    """Make scenes, look into a teacher, distil it, fine-tune on few labels also from the zoo, write a page.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: The folder holds another demo or cannot be written.
        Interrupted: Stopped by a signal; the same call continues.
    """
    out = config.out
    train, test = config.scenes
    if config.dry_run:
        log.info(f"dry run: would make {train + test} scenes and distil for {config.distil_steps} steps,")
        seeds = len(config.seeds)
        log.info(
            f"then fine-tune {seeds * (len(INITS) - 1)} times for {config.finetune_steps} steps and {seeds} times for "
            f"{config.zoo_steps} on {config.label_budget} labels, into {out}"
        )
        return None
    with output_folder(out, overwrite=config.overwrite) as outputs:
        outputs.check("results.json", "demo.html")
        from unip.demonstration.program import run_demo  # needs torch

        return run_demo(config)
