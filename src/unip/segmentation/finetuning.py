"""`unip finetune`: train a segmentation model from a backbone, all of it or only a linear probe."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError
from unip.outputs import write_text
from unip.runtime.compiling import note_compiled
from unip.runtime.device import choose_inference_precision
from unip.segmentation.adapters import merge_adapters
from unip.segmentation.calibration import FILE as CALIBRATION
from unip.segmentation.config import EvaluateConfig, FinetuneConfig, ResolvedConfig
from unip.segmentation.describe import describe_loss, describe_pace, describe_training, forward_shapes
from unip.segmentation.evaluating import evaluate_model
from unip.segmentation.evaluation import EvaluateResult
from unip.segmentation.inference import OutOfMemory
from unip.segmentation.intervals import MiouInterval
from unip.segmentation.metrics import Scores, percent
from unip.segmentation.preparing import Preparation, prepare
from unip.segmentation.recipes import default_model_text
from unip.segmentation.storage import ModelInfo, save_segmenter
from unip.segmentation.training_data import make_dataset
from unip.segmentation.validation import quick_miou
from unip.training.best import Evaluation
from unip.training.loop import Trainable, TrainResult, train
from unip.training.optim import parameter_groups
from unip.training.run_folder import RunFolder
from unip.training.schedule import warmup_poly

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinetuneResult:
    """The run folder (a model for evaluate and predict), how training went, and how good the model is.

    Only the first rank writes the model and evaluates it; the others return before that is done, without scores.

    Attributes:
        run: The run folder.
        training: How training went.
        scores: On ``val``, or on what was held out; None if there is neither.
        interval: That of their mIoU.
    """

    run: Path
    training: TrainResult
    scores: Scores | None
    interval: MiouInterval | None = None

    @classmethod
    def of(cls, run: RunFolder, training: TrainResult, evaluated: EvaluateResult | None) -> FinetuneResult:
        """Put together what is known in the end."""
        if evaluated is None:
            return cls(run.path, training, None)
        return cls(run.path, training, evaluated.scores, evaluated.interval)


def train_segmenter(
    given: FinetuneConfig,
    run: RunFolder,
    data: SegmentationData,
    val: SegmentationData | None,
    accelerator: Accelerator,
) -> FinetuneResult | None:
    """Do what is left of :func:`unip.segmentation.verbs.finetune` once the paths are checked.

    Args:
        given: The settings, with what an earlier call chose where this one continues it.
        run: Where to.
        data: The pairs of ``given.split``.
        val: Those of ``given.val``, if it is set.
        accelerator: The devices, and this process's part of the work.
    """
    ready = prepare(given, run, data, val, accelerator)
    config, main = ready.config, ready.main
    if main:
        describe(ready)
    finished = run.is_finished(config)
    run.open(config, main_process=main)
    ready.labels.refuse_other_classes()
    if config.dry_run:
        shapes = forward_shapes(ready.segmenter, config)
        if main:
            log.info(f"one forward pass: {shapes}")
            log.info(f"dry run: would train in {config.out} on {ready.accelerator.device}; nothing was written")
        return None
    return keep_finished(ready, run) if finished else run_training(ready, run)


def describe(ready: Preparation) -> None:
    """Say what will be done."""
    if not ready.model_given:
        log.info(default_model_text())
    for line in ready.labels.describe_changes():
        log.warning(line)
    for line in [*describe_training(ready), describe_loss(ready), *ready.reasons]:
        log.info(line)


def keep_finished(ready: Preparation, run: RunFolder) -> FinetuneResult:
    """Leave the model of a run without checkpoints as it is, and only evaluate it."""
    steps, last = run.result()
    if ready.main:
        log.info(f"{ready.config.out} is finished, and its checkpoints are gone: the model stays as it is")
    result = evaluate_finished(ready.config, run) if ready.main else None
    return FinetuneResult.of(run, TrainResult(steps, 0.0, 0.0, last), result)


def run_training(ready: Preparation, run: RunFolder) -> FinetuneResult:
    """Train, save and evaluate the model."""
    config, segmenter = ready.config, ready.segmenter
    if ready.main:
        ready.labels.store(run)
    if ready.accelerator.num_processes > 1 and ready.on_gpu:  # torch has none for the CPU
        nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)  # type: ignore[no-untyped-call]
    trainable = Trainable(
        model=ready.model,
        saved=segmenter,
        dataset=partial(make_dataset, config, segmenter, ready.labels.train, ready.accelerator, ready.pseudo),
        groups=parameter_groups(
            segmenter,
            lr=config.lr,
            weight_decay=config.weight_decay,
            backbone="backbone.",
            depth=segmenter.depth,
            layer_decay=config.layer_decay,
        ),
        schedule=warmup_poly(config.steps, config.warmup, config.power),
        compiled=ready.model.regions,
        evaluation=make_evaluation(ready),
        pace=partial(tell_pace, ready),
    )
    done = train(trainable, ready.on_machine, run, ready.accelerator)
    merge_adapters(segmenter)
    if not ready.main:
        return FinetuneResult.of(run, done, None)
    save_segmenter(segmenter, run.model, info=model_info(ready, done).to_dict(), lineage=ready.lineage)
    log.info(f"{done.steps} steps of training are done; the model is {run.model}")
    if done.best is not None and done.best.score is not None:
        text = f"of step {done.best.step}, with {percent(done.best.score)} % mIoU on {config.val}"
        log.info(f"its weights are the best, those {text}; chosen by it, they score a little too high there")
    return FinetuneResult.of(run, done, evaluate_finished(config, run))


def tell_pace(ready: Preparation, seconds: float, left: int) -> None:
    """After the first steps, note that their kernels are made, and say how long training will take."""
    if ready.kernels and ready.on_machine.compile == "compiled-graphs":
        note_compiled(ready.kernels)
    for line in describe_pace(ready.config, seconds, left, on_gpu=ready.on_gpu):
        log.info(line)


def make_evaluation(ready: Preparation) -> Evaluation | None:
    """Return how the weights are judged while they are trained: by their mIoU on ``val``."""
    config, val, device = ready.config, ready.labels.val, ready.accelerator.device
    if config.eval_every is None or val is None:
        return None
    dtype = choose_inference_precision(config.precision, device)
    return Evaluation(
        score=partial(quick_miou, ready.segmenter, val.data, device=device, dtype=dtype, workers=config.workers),
        name="val_miou",
        every=config.eval_every,
        patience=config.patience,
    )


def model_info(ready: Preparation, done: TrainResult) -> ModelInfo:
    """Return what the model folder tells about its making."""
    config, report, best = ready.config, ready.backbone.report, done.best
    return ModelInfo(
        backbone=config.model,
        continues=config.model if ready.continued else None,
        backbone_sha256=report.sha256 if report else None,
        data=str(config.data),
        split=config.split,
        remap=config.remap,
        labelled_images=len(ready.data),
        pseudo_images=len(ready.pseudo.data) if ready.pseudo else None,
        pseudo_share=config.pseudo_share if ready.pseudo else None,
        held_out_images=len(ready.labels.holding.held.held) if ready.labels.holding.held else None,
        mode=config.mode,
        steps=done.steps,
        val=config.val if best else None,
        best_step=best.step if best else None,
        val_miou=best.score if best else None,
        batch_size=config.batch_size,
        lr=config.lr,
        layer_decay=config.layer_decay,
        freeze_layers=config.freeze_layers or None,
        lora=config.lora,
        seed=config.seed,
        final_loss=done.last.get("loss"),
    )


def evaluate_finished(config: ResolvedConfig, run: RunFolder) -> EvaluateResult | None:
    """Evaluate the saved model on ``val``, and keep what its confidence means there beside its weights.

    Raises:
        UnipError: The device's memory is too small.
    """
    if config.val is None:
        return None
    settings = EvaluateConfig.make(
        model=run.path,
        data=config.data,
        remap=config.remap,
        images=config.images,
        masks=config.masks,
        mask_suffix=config.mask_suffix,
        mask_orientation=config.mask_orientation,
        split=config.val,
        calibrate=True,
        group=config.group,
        device=config.device,
        precision=config.precision,
        workers=config.workers,
    )
    try:
        evaluated = evaluate_model(settings)
    except OutOfMemory as error:
        raise UnipError(
            f"in the evaluation of the trained model, {error.what}",
            "The model is saved: score it with `unip evaluate` and a lower --batch-size.",
        ) from error
    reliability = None if evaluated is None else evaluated.reliability
    if reliability is not None and reliability.calibration is not None:
        write_text(run.model / CALIBRATION, reliability.calibration.model_dump_json() + "\n")
    return evaluated
