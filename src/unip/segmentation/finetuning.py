"""`unip finetune`: train a segmentation model from a backbone, all of it or only a linear probe."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from unip.data.images.conversion import DEFAULT
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.record import CheckedLabels
from unip.errors import UnipError
from unip.runtime.device import choose_precision
from unip.segmentation.adapters import add_adapters, freeze_layers, merge_adapters
from unip.segmentation.config import EvaluateConfig, FinetuneConfig, ResolvedConfig
from unip.segmentation.defaults import TaskFacts, choose, choose_compile, shown
from unip.segmentation.describe import describe_loss, describe_training, forward_shapes
from unip.segmentation.evaluating import evaluate_model
from unip.segmentation.inference import OutOfMemory
from unip.segmentation.labels import check_task
from unip.segmentation.losses import PixelLoss, class_weights
from unip.segmentation.metrics import Scores, percent
from unip.segmentation.model import (
    CachedLoss,
    SegmentationLoss,
    Segmenter,
    SegmenterSpec,
)
from unip.segmentation.storage import save_segmenter
from unip.segmentation.training_data import check_cache, make_dataset, make_rare_crops
from unip.segmentation.validation import quick_miou
from unip.training.best import Evaluation
from unip.training.loop import Trainable, TrainResult, train
from unip.training.optim import parameter_groups
from unip.training.run_folder import RunFolder
from unip.training.schedule import check_warmup, warmup_poly
from unip.vit.backbone import Backbone, load_backbone
from unip.vit.shape import heads_of
from unip.vit.spec import set_last_heads

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinetuneResult:
    """The run folder (a model for evaluate and predict), how training went, and the scores on ``val`` if given.

    Only the first rank writes the model and evaluates it; the others return before that is done, without scores.
    """

    run: Path
    training: TrainResult
    scores: Scores | None


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
    main = accelerator.is_main_process

    conversion = given.resolve_conversion(data.conversion)
    given, data = given.model_copy(update=conversion.as_settings()), replace(data, conversion=conversion)
    torch.manual_seed(given.seed)  # weights from scratch and heads
    backbone = load_backbone(given.model, drop_path=0.0 if given.mode == "linear" else given.drop_path)
    labels = check_task(given, run, data, val)
    data, pixels = labels.train.data, labels.facts.pixels
    on_gpu = accelerator.device.type == "cuda"
    facts = TaskFacts.of(labels.facts, backbone, on_gpu=on_gpu, ranks=accelerator.num_processes)
    config, reasons = resolve_finetuning(given, facts)
    check_warmup(config.warmup, config.steps)
    compiled, why = choose_compile(config, facts)
    if compiled != config.compile:
        reasons.append(f"compile {shown(compiled)}: {why}")
    check_batch(config, accelerator)
    check_cache(config, accelerator.device)
    make_rare_crops(config, labels.train)
    segmenter = build(config, backbone, data)
    adapted = freeze_and_adapt(config, segmenter)
    if config.checkpoint_activations and config.mode == "full":  # a frozen backbone keeps no activations
        backbone.model.set_grad_checkpointing(True)  # type: ignore[operator]
    if on_gpu:
        segmenter.to(memory_format=torch.channels_last)  # the layout that half-precision convolutions run in
    pixel_loss = make_loss(config, data, pixels)
    loss = CachedLoss if config.cache_features else SegmentationLoss
    model = loss(segmenter, pixel_loss, frozen_backbone=config.mode == "linear")
    if main:
        for line in labels.describe_changes():
            log.warning(line)
        is_8_bit = labels.train.facts[0].is_8_bit
        for line in [
            *describe_training(config, backbone, data, pixels, segmenter, adapted, is_8_bit=is_8_bit),
            describe_loss(config, data, pixel_loss),
            *reasons,
        ]:
            log.info(line)
    finished = run.is_finished(config)
    run.open(config, main_process=main)
    if config.dry_run:
        shapes = forward_shapes(segmenter, config)
        if main:
            log.info(f"one forward pass: {shapes}")
            log.info(f"dry run: would train in {config.out} on {accelerator.device}; nothing was written")
        return None
    if finished:
        steps, last = run.result()
        if main:
            log.info(f"{config.out} is finished, and its checkpoints are gone: the model stays as it is")
        return FinetuneResult(run.path, TrainResult(steps, 0.0, 0.0, last), final_scores(config, run) if main else None)
    if main:
        labels.store(run)

    if accelerator.num_processes > 1 and on_gpu:  # torch has none for the CPU
        nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)  # type: ignore[no-untyped-call]
    trainable = Trainable(
        model=model,
        saved=segmenter,
        dataset=partial(make_dataset, config, segmenter, labels.train, accelerator),
        groups=parameter_groups(
            segmenter,
            lr=config.lr,
            weight_decay=config.weight_decay,
            backbone="backbone.",
            depth=segmenter.depth,
            layer_decay=config.layer_decay,
        ),
        schedule=warmup_poly(config.steps, config.warmup, config.power),
        compiled=(model,),
        evaluation=make_evaluation(config, segmenter, labels.val, accelerator.device),
    )
    # how it is compiled is not recorded, so that the run may go on, and be repeated, on another machine
    done = train(trainable, config.model_copy(update={"compile": compiled}), run, accelerator)
    scores = None
    merge_adapters(segmenter)
    if main:
        save_segmenter(segmenter, run.model, info=model_info(config, backbone, data, done))
        log.info(f"{done.steps} steps of training are done; the model is {run.model}")
        if done.best is not None and done.best.score is not None:
            text = f"of step {done.best.step}, with {percent(done.best.score)} % mIoU on {config.val}"
            log.info(f"its weights are the best, those {text}")
        scores = final_scores(config, run)
    return FinetuneResult(run.path, done, scores)


def resolve_finetuning(config: FinetuneConfig, facts: TaskFacts) -> tuple[ResolvedConfig, list[str]]:
    """Choose what was left open, and say why, a line each.

    Raises:
        UnipError: Settings that were given do not fit together.
    """
    chosen, reasons = choose(config, facts)
    return ResolvedConfig.make(**{**config.model_dump(), **chosen}), reasons


def make_evaluation(
    config: ResolvedConfig, segmenter: Segmenter, val: CheckedLabels | None, device: torch.device
) -> Evaluation | None:
    """Return how the weights are judged while they are trained: by their mIoU on ``val``."""
    if config.eval_every is None or val is None:
        return None
    dtype = choose_precision(config.precision, device)
    return Evaluation(
        score=partial(quick_miou, segmenter, val.data, device=device, dtype=dtype, workers=config.workers),
        name="val_miou",
        every=config.eval_every,
        patience=config.patience,
    )


def check_batch(config: ResolvedConfig, accelerator: Accelerator) -> None:
    """Refuse a batch of one image a pass where batch norm would see a single pooled value.

    Raises:
        UnipError: It is one, and the decoder pools the whole image.
    """
    share = config.batch_size // (accelerator.num_processes * config.accumulate)
    synced = accelerator.num_processes if accelerator.device.type == "cuda" else 1
    if config.decoder == "upernet" and share * synced < 2:
        raise UnipError(
            f"batch_size {config.batch_size} gives upernet's batch norm one image at a time",
            "Use at least 2 images a pass, or --decoder light.",
        )


def build(config: ResolvedConfig, backbone: Backbone, data: SegmentationData) -> Segmenter:
    """Put a resolved config's decoder on a backbone."""
    spec = backbone.spec
    if config.last_heads == "uniform" and spec.last_heads is not None:
        set_last_heads(backbone.model, heads_of(backbone.model, 1))
        spec = spec.model_copy(update={"last_heads": None})
    return Segmenter(
        SegmenterSpec.make(
            backbone=spec,
            classes=data.classes,
            decoder=config.decoder,
            pyramid=config.pyramid,
            layers=config.layers,
            channels=config.channels,
            auxiliary_weight=config.auxiliary_weight,
            probe_norm=config.probe_norm,
            mean=backbone.mean,
            std=backbone.std,
            short_side=config.base[1],
            crop=config.crop,
            stride=max(1, config.crop * 2 // 3),
            conversion=data.conversion or DEFAULT,
        ),
        backbone.model,
    )


def freeze_and_adapt(config: ResolvedConfig, segmenter: Segmenter) -> int:
    """Freeze what is not to be trained and add adapters; return how many weights have one.

    Raises:
        UnipError: There are not so many layers, or the rank is too high.
    """
    if config.lora is not None:
        return len(add_adapters(segmenter, config.lora, frozen_layers=config.freeze_layers))
    if config.freeze_layers:
        freeze_layers(segmenter, config.freeze_layers)
    return 0


def make_loss(config: ResolvedConfig, data: SegmentationData, counts: dict[str, int]) -> PixelLoss:
    """Return the loss, its weights from the training pixels of each class."""
    pixels = [counts[name] for name in data.classes.names]
    return PixelLoss(
        weights=class_weights(pixels, config.class_weights),
        hard_pixels=config.hard_pixels,
        dice=config.loss == "ce+dice",
    )


def model_info(config: ResolvedConfig, backbone: Backbone, data: SegmentationData, done: TrainResult) -> dict[str, Any]:
    """Return what the model folder tells about its making."""
    return {
        "backbone": config.model,
        "backbone_sha256": backbone.report.sha256 if backbone.report else None,
        "data": str(config.data),
        "split": config.split,
        "remap": list(config.remap),
        "labelled_images": len(data),
        "mode": config.mode,
        "steps": done.steps,
        **({"val": config.val, "best_step": done.best.step, "val_miou": done.best.score} if done.best else {}),
        "batch_size": config.batch_size,
        "lr": config.lr,
        "layer_decay": config.layer_decay,
        **({"freeze_layers": config.freeze_layers} if config.freeze_layers else {}),
        **({"lora": config.lora} if config.lora is not None else {}),
        "seed": config.seed,
        "final_loss": done.last.get("loss"),
    }


def final_scores(config: ResolvedConfig, run: RunFolder) -> Scores | None:
    """Evaluate the saved model on ``val``.

    Raises:
        UnipError: The device's memory is too small.
    """
    if config.val is None:
        return None
    settings = EvaluateConfig.make(
        model=run.path,
        data=config.data,
        remap=config.remap,
        split=config.val,
        device=config.device,
        precision=config.precision,
        workers=config.workers,
    )
    try:
        result = evaluate_model(settings)
    except OutOfMemory as error:
        raise UnipError(
            f"in the evaluation of the trained model, {error.what}",
            "The model is saved: score it with `unip evaluate` and a lower --batch-size.",
        ) from error
    return None if result is None else result.scores
