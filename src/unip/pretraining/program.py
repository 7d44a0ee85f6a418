"""`unip pretrain`: a small student learns from a teacher's hybrid attention (UNIP, section 4), or in another way."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator

from unip.data.manifests.manifest import summary, summary_table, write_manifest
from unip.data.sampling.pretraining_crops import PretrainDataset, Squares
from unip.data.sampling.pretraining_crops_gpu import DevicePretrainCrops, images_fit
from unip.errors import UnipError
from unip.log import TableMessage
from unip.outputs import write_json
from unip.pretraining.config import PretrainConfig
from unip.pretraining.guard import Verdict, as_backbone, judge
from unip.pretraining.objective import Objective
from unip.pretraining.preparing import PretrainPlan, prepare, some_images
from unip.pretraining.resolving import few_crops
from unip.pretraining.sample_noise import WithPositions
from unip.pretraining.student import average_with_init, describe_student
from unip.training.feed import PositionDataset
from unip.training.loop import Trainable, TrainResult, train
from unip.training.optim import parameter_groups
from unip.training.pace import duration
from unip.training.run_folder import RunFolder
from unip.training.schedule import warmup_cosine
from unip.vit.ancestry import ancestors_of
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.vit.normalisation import INFMIX_RGB
from unip.zoo.lineage import Lineage

log = logging.getLogger(__name__)

GUARD = "guard.json"
METHODS = {
    "nmi_had": "NMI-HAD attention distillation (UNIP, ICLR 2025, arXiv 2502.02257)",
    "nmi_had+values": "NMI-HAD attention distillation (UNIP, ICLR 2025, arXiv 2502.02257) with value relations "
    "(MiniLM, NeurIPS 2020, arXiv 2002.10957)",
    "features": "feature distillation: cosine distance to the teacher's tokens through a linear map",
    "mae": "masked autoencoding (He et al., CVPR 2022, arXiv 2111.06377)",
}
NOT_TRAINED = {
    "nmi_had": "the last block's values, projection and MLP and the final norm: the loss does not reach them",
    "nmi_had+values": "the last block's projection and MLP and the final norm: the loss does not reach them",
}


@dataclass(frozen=True)
class PretrainResult:
    """What came out: the model folder, the layers that were distilled (teacher by teacher), and how training went."""

    model: Path
    layers: tuple[int, ...]
    loss: float
    training: TrainResult

    @property
    def layer(self) -> int:
        """The first teacher's layer."""
        return self.layers[0]


def run_pretraining(config: PretrainConfig, run: RunFolder, accelerator: Accelerator) -> PretrainResult | None:
    """Do what is left of :func:`unip.pretraining.verbs.pretrain` once the paths are checked.

    Args:
        config: The settings, with what an earlier call chose where this one continues it.
        run: Where to.
        accelerator: The devices, and this process's part of the work.
    """
    plan = prepare(config, run, accelerator)
    if accelerator.is_main_process:
        for line in describe(plan):
            log.info(line)
        if not plan.finished and (problem := few_crops(plan.config)):
            log.warning(problem)
    run.open(plan.config, main_process=accelerator.is_main_process)
    if config.dry_run:
        if accelerator.is_main_process:
            log.info(f"dry run: would train in {config.out} on {accelerator.device}; nothing was written")
        return None
    return finished_result(plan, run) if plan.finished else train_student(plan, run)


def describe(plan: PretrainPlan) -> Iterator[str | TableMessage]:
    """Say what will be trained, a line or a table at a time."""
    config = plan.config
    yield TableMessage(summary_table(summary(plan.table)))
    yield from plan.loaded
    yield from plan.chosen
    for found in plan.layers:
        if len(plan.layers) > 1:
            yield f"teacher {found.source}, weight {found.weight:g}"
        yield from found.lines
    yield from plan.speed
    yield f"objective {config.objective}; {describe_student(config, plan.student)}"
    yield describe_crops(config)
    yield f"lr {config.lr:.3g}, warm-up {config.warmup}, drop path {config.drop_path:g}"


def describe_crops(config: PretrainConfig) -> str:
    """Say how much is seen of the images."""
    low, high = (f"{100 * share:g}" for share in config.scale)
    how = ", also as infrared cameras do," if config.distortions == "infrared" else ""
    distorted = f", {100 * config.distort:g} % of them distorted{how} for the student" if config.distort else ""
    crops = f"crops of {config.size} px, {low} to {high} % of an image"
    return f"{config.steps} steps of {config.batch_size} {crops}{distorted}"


def finished_result(plan: PretrainPlan, run: RunFolder) -> PretrainResult:
    """Return what came out of a run that is finished, and whose checkpoints are gone."""
    steps, last = run.result()
    if plan.accelerator.is_main_process:
        log.info(f"{plan.config.out} is finished, and its checkpoints are gone: the student stays as it is")
    training = TrainResult(steps, 0.0, 0.0, last)
    return PretrainResult(run.model, plan.layer_numbers, last.get("loss", math.nan), training)


def train_student(plan: PretrainPlan, run: RunFolder) -> PretrainResult:
    """Train what was prepared, and save the student."""
    config, objective, main = plan.config, plan.objective, plan.accelerator.is_main_process
    if main:
        write_manifest(plan.table, run.path / "manifest.parquet")
        found = [layer.model_dump(mode="json", exclude_unset=True) for layer in plan.layers]
        write_json(run.path / "teacher.json", {"objective": config.objective, "teachers": found})
    saved = objective.saved(plan.student)
    trainable = Trainable(
        model=objective,
        saved=saved,
        dataset=partial(make_dataset, config, plan.trained, plan.accelerator.device),
        groups=parameter_groups(saved, lr=float(config.lr), weight_decay=config.weight_decay),
        schedule=warmup_cosine(config.steps, int(config.warmup)),
        betas=(0.9, 0.95),
        compiled=objective.parts,
        picture=partial(draw, objective, plan.images, config),
        picture_every=config.picture_every,
        pace=tell_pace,
    )
    done = train(trainable, config, run, plan.accelerator)
    if main:
        if config.init_share:
            average_with_init(plan.student, plan.start, config.init_share)
        log.info(f"{config.objective} ended at a loss of {done.last['loss']:.4f}")
        verdict = guard(plan, run) if plan.held is not None else None
        if verdict is not None and verdict.saved == "start":
            save_start(plan, run, verdict)
            log.warning(f"the old start is kept, and is {run.model}: {verdict.reason}")
        else:
            save_student(plan, run, done, verdict)
            log.info(f"the student is {run.model}" + ("" if verdict is None else f": {verdict.reason}"))
    return PretrainResult(run.model, plan.layer_numbers, done.last["loss"], done)


def tell_pace(seconds: float, left: int) -> None:
    """Say how long training will take."""
    log.info(f"{seconds:.2g} s a step: about {duration(seconds * left)} for the {left:,} steps that are left")


def guard(plan: PretrainPlan, run: RunFolder) -> Verdict:
    """Compare the adapted weights with those of the start, and write down which are saved."""
    assert plan.held is not None
    config = plan.config
    start = load_backbone(config.init, patch=config.patch_size)
    verdict = judge(
        start, as_backbone(plan.student, start, INFMIX_RGB), plan.held, plan.halves, held_out=plan.holds_out
    )
    write_json(run.path / GUARD, verdict.to_dict())
    return verdict


def save_start(plan: PretrainPlan, run: RunFolder, verdict: Verdict) -> None:
    """Write the start as it was, since the adapted weights are worse."""
    config = plan.config
    start = load_backbone(config.init, patch=config.patch_size)
    save_backbone(
        start.model,
        start.spec,
        run.model,
        mean=start.mean,
        std=start.std,
        input_size=start.input_size,
        info={"method": "none: the start as it was", "init": config.init, "guard": verdict.to_dict()},
        lineage=Lineage.of(ancestors_of(start, "init")),
    )


def make_dataset(config: PretrainConfig, table: pa.Table, device: torch.device) -> PositionDataset:
    """Return the crops of the data, cut by the GPU where possible.

    Raises:
        UnipError: It cannot, though ``cache`` is ``gpu``; an image cannot be read.
    """
    cache = "ram" if config.cache == "gpu" else config.cache
    dataset = PretrainDataset(table, size=config.size, seed=config.seed, cache=cache, scale=config.scale)
    with_positions = config.objective == "mae" or config.distort > 0  # what is random there belongs to the sample
    if config.cache in ("auto", "gpu") and images_fit(dataset, device):
        return DevicePretrainCrops(dataset, device, with_positions=with_positions)
    if config.cache == "gpu":
        raise UnipError(f"cache gpu: the images do not fit on {device}", "Use --cache auto.")
    return WithPositions(dataset) if with_positions else dataset


@torch.no_grad()
def draw(model: Objective, images: Squares, config: PretrainConfig) -> np.ndarray:
    """Draw the state of training on two images of the data, infrared ones if there are any."""
    shown = some_images(images, config, 2)
    model.eval()
    picture = model.draw(shown.to(next(model.parameters()).device))
    model.train()
    return picture


def save_student(plan: PretrainPlan, run: RunFolder, done: TrainResult, verdict: Verdict | None = None) -> None:
    """Write the student as a model folder that says how it was made."""
    config = plan.config
    about = ("source", "sha256", "layer", "weight", "zoom")
    teachers = [{name: getattr(found, name) for name in about} for found in plan.layers]
    info: dict[str, Any] = {
        "method": METHODS[config.objective],
        "objective": config.objective,
        "init": config.init,
        **({"init_share": config.init_share} if config.init_share else {}),
        **({"teachers": teachers} if teachers else {}),
        "sources": list(config.data),
        "steps": done.steps,
        "batch_size": config.batch_size,
        "final_loss": done.last["loss"],
    }
    if config.objective == "nmi_had+values":
        info["values_weight"] = config.values_weight
    if config.objective == "mae":
        info |= {"mask_ratio": config.mask_ratio, "decoder": f"{config.decoder_depth} x {config.decoder_width}"}
    if config.student_layers:
        info |= {"student_layers": list(config.student_layers)}
    if config.distort:
        info |= {"distort": config.distort, "distortions": config.distortions}
    if config.objective in NOT_TRAINED:
        info["not_trained"] = NOT_TRAINED[config.objective]
    if verdict is not None:
        info |= {"guard": verdict.to_dict()}
    mean, std = INFMIX_RGB
    save_backbone(
        plan.student,
        plan.spec,
        run.model,
        mean=mean,
        std=std,
        input_size=config.size,
        info=info,
        lineage=plan.lineage,
    )
