"""`unip predict`: segment images with a model that carries all it needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unip.data.images.config import Conversion
from unip.data.labelled.overlay import OVERLAY_PIXELS
from unip.deployment.config import PredictConfig
from unip.deployment.engine import Wanted
from unip.deployment.inputs import Reader
from unip.deployment.loading import load_with
from unip.deployment.model import Model, Unreadable
from unip.deployment.names import result_files
from unip.deployment.sharing import arena_for
from unip.deployment.writing import Prediction, Writer, Writing
from unip.errors import UnipError
from unip.outputs import write_json
from unip.progress import meter
from unip.runtime.queues import gc_frozen, workers_for
from unip.runtime.workers import lost_process_told, map_threads
from unip.segmentation.training_images import ImageWatch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictResult:
    """The folder with the results, and the mask written for each image."""

    out: Path
    masks: dict[Path, Path] = field(repr=False)


@lost_process_told("predicting")
def segment_images(config: PredictConfig, names: dict[Path, str]) -> PredictResult | None:
    """Do what is left of :func:`unip.deployment.verbs.predict` once the paths are checked.

    Args:
        config: The settings.
        names: What the results of each image are called, see :func:`unip.deployment.names.name_outputs`.
    """
    model = load_with(config.model, config.loading())
    facts = model.facts
    log.info(f"{len(names)} images, classes {', '.join(model.names)}")
    log.info(f"with {facts.engine} on {facts.device} in {facts.precision}; {facts.view}; {facts.scaling.describe()}")
    log.info(f"images of more than 8 bits, if any, become grey as in training: {model.conversion.describe()}")
    channel = None if facts.images is None else facts.images.channel
    if channel is not None:
        log.info(f"channel {channel + 1} of image files is read, as in training; of files with one channel, that one")
    if config.risk is not None:
        log.info(describe_risk(model, config.risk))
    if config.dry_run:
        check_images(list(names), model.conversion, channel)
        first = next(iter(names.values()))
        log.info(
            f"dry run: would write {len(names)} results such as {config.out / 'masks' / first}.png; nothing was written"
        )
        return None

    paths = list(names)
    records: list[Prediction] = []
    problems: list[str] = []
    reduced = 0
    watch = ImageWatch(facts.images, scaling=facts.scaling)
    wanted = Wanted(confidence=False, probabilities=config.probabilities)
    arena = arena_for(paths, facts.scaling)  # before the processes
    results = model.segment(paths, wanted=wanted, risk=config.risk, workers=config.workers, watch=watch, arena=arena)
    with gc_frozen(), workers_for(len(paths)) as pool, meter("predicting", len(paths), "images") as progress:
        writing = Writing(Writer.of(config), pool)
        for result in results:
            if isinstance(result, Unreadable):
                problems.append(result.problem.what)
            else:
                assert result.path is not None
                records += writing.add(result, result_files(names[result.path], config))
                reduced += config.overlays and result.mask.size > OVERLAY_PIXELS
                del result  # a large one is in nobody's way once it is written
            progress.advance(note=f"{len(problems)} unreadable" if problems else "")
        records += writing.finish()
    watch.finish(len(paths))
    if reduced:
        log.info(f"overlays of {reduced} images were reduced to {OVERLAY_PIXELS / 1e6:g} million pixels at most")
    write_json(
        config.out / "predictions.json",
        {
            "model": str(config.model),
            "classes": {"names": model.names, "palette": model.classes.palette},
            "conversion": model.conversion.model_dump(mode="json"),
            "scale": facts.scaling.scale,
            **{"engine": facts.engine, "device": facts.device, "precision": facts.precision, "view": facts.view},
            **({} if config.risk is None else {"risk": config.risk, "thresholds": thresholds_of(model, config.risk)}),
            "images": [record.to_dict() for record in records],
            "unreadable": problems,
        },
    )
    log.info(f"{len(records)} images segmented; results are in {config.out}")
    if problems:
        fix = "All others were segmented." if records else "Nothing was segmented: give readable images."
        raise unreadable(problems, len(paths), fix, rest=", listed in predictions.json")
    return PredictResult(config.out, {found.image: config.out / found.files["mask"] for found in records})


def thresholds_of(model: Model, risk: float) -> dict[str, float | None]:
    """Return from which confidence on each class is right often enough; None: it never is."""
    found = (float(value) for value in model.thresholds(risk))
    return {name: None if value > 1 else round(value, 6) for name, value in zip(model.names, found, strict=True)}


def describe_risk(model: Model, risk: float) -> str:
    """Say from which confidence on each class counts.

    Raises:
        UnipError: The model does not know what its confidence means.
    """
    found = thresholds_of(model, risk)
    told = ", ".join(f"{name} {'never' if value is None else f'{value:.3f}'}" for name, value in found.items())
    return f"at most {100 * risk:g} % of a class's pixels may be wrong; less sure ones become 255: below {told}"


def check_images(paths: Sequence[Path], conversion: Conversion, channel: int | None) -> None:
    """Read every image, as prediction will.

    Raises:
        UnipError: Some cannot be read.
    """
    reader = Reader(conversion, channel)

    def problem(path: Path) -> str:
        given, _ = reader.read(0, path)
        return "" if given.problem is None else given.problem.what

    problems = [what for what in map_threads(problem, paths, "checking images") if what]
    if problems:
        raise unreadable(problems, len(paths), "Remove or replace them; prediction would leave them out.")


def unreadable(problems: Sequence[str], images: int, fix: str, *, rest: str = "") -> UnipError:
    """Say which of so many images could not be read, the first 20 by name, and where to find the ``rest``."""
    listed = "\n".join(f"  {problem}" for problem in problems[:20])
    more = f"\n  and {len(problems) - 20} more{rest}" if len(problems) > 20 else ""
    return UnipError(f"{len(problems)} of {images} images could not be read:\n{listed}{more}", fix)
