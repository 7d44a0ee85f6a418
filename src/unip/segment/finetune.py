"""`unip finetune`: train a segmentation model from a backbone, all of it or only a linear probe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from pydantic import Field, field_validator, model_validator
from torch import nn

from unip.config import verb
from unip.data.device_crops import DeviceCrops, fits
from unip.data.label_facts import label_facts
from unip.data.memory import Cache
from unip.data.reading import DEFAULT, ReadingOptions
from unip.data.remap import Remap
from unip.data.segmentation import DATA_HELP, SegmentationData, check_segmentation, few_labels, open_segmentation
from unip.data.transforms import SegmentationTrainDataset, SegmentationTrainTransform
from unip.errors import UnipError
from unip.progress import say
from unip.segment.cached import CachedFeatures, CachedLoss
from unip.segment.defaults import Facts, Recipe, choose, compiling, shown
from unip.segment.evaluate import EvaluateConfig, evaluate
from unip.segment.inference import choose_precision
from unip.segment.losses import MAX_WEIGHT, LossName, PixelLoss, Weighting, class_weights
from unip.segment.metrics import Scores, percent
from unip.segment.model import (
    Decoder,
    PyramidName,
    SegmentationLoss,
    Segmenter,
    SegmenterSpec,
)
from unip.segment.partial import add_adapters, freeze_layers, merge_adapters
from unip.segment.storage import save_segmenter
from unip.segment.validation import quick_miou
from unip.training.best import Evaluation
from unip.training.config import TrainingConfig
from unip.training.loop import Trainable, TrainResult, make_accelerator, train
from unip.training.optim import count_parameters, parameter_groups
from unip.training.run_folder import RunFolder
from unip.training.schedule import warmup_poly
from unip.vit.backbone import Backbone, load_backbone
from unip.vit.shape import heads_of
from unip.vit.spec import set_last_heads


class FinetuneConfig(ReadingOptions, TrainingConfig):
    """What to train on which labels; what is left open is chosen by the recipe and from the data."""

    model: str = Field(
        description="A distilled run, timm:NAME, hf:REPO, a checkpoint; a student's name is from scratch."
    )
    data: Path = Field(description=DATA_HELP)
    split: str | None = Field("train", description='Split to train on; "" for a folder without splits.')
    val: str | None = Field(None, description="Split to evaluate on at the end, and with eval_every meanwhile.")
    eval_every: int | None = Field(
        None,
        ge=1,
        description="Steps between evaluations on val; the best weights are the result. None: the last.",
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after this many evaluations in a row without a better one; none: never."
    )
    remap: Remap = ()
    labels: float | None = Field(
        None, gt=0, description="Few labels: a share of the images up to 1, or their number above."
    )
    label_seed: int = Field(0, ge=0, description="Seed of the choice of few labels.")
    mode: Literal["full", "linear"] = Field("full", description="Train all, or a linear probe on the frozen backbone.")
    recipe: Recipe = Field("fast", description="What settings left open become: the paper's, or fast ones by the data.")
    steps: int = Field(0, ge=0, description="Optimiser steps; 0: as many as epochs make, or as the recipe says.")
    decoder: Literal["auto"] | Decoder = Field(
        "auto", description="auto: light, the paper's upernet, linear in a probe."
    )
    pyramid: PyramidName = Field("llfpn", description="Levels from the last layer, or (fpn) from four layers.")
    layers: tuple[int, ...] = Field((), description="Layers for the decoder, 1-based; none: the paper's.")
    channels: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="Decoder channels; auto: backbone's width, light 128."
    )
    auxiliary_weight: Literal["auto"] | Annotated[float, Field(ge=0)] = Field(
        "auto", description="auto: 0.4 with upernet, else 0 (none)."
    )
    probe_norm: bool = Field(False, description="Linear decoder: standardise the features first (not in the paper).")
    last_heads: Literal["keep", "uniform"] = Field(
        "keep", description="Heads of the last block: as distilled, or as many as in the other blocks."
    )
    loss: LossName = Field("ce", description="Cross-entropy, or with soft dice added.")
    class_weights: Weighting = Field(
        "none", description="Cross-entropy by class: balanced is 1 / share of pixels, root its square root."
    )
    hard_pixels: float | None = Field(
        None, gt=0, lt=1, description="Cross-entropy of this share of the pixels only, the hardest; none: of all."
    )
    batch_size: int = Field(8, ge=1, description="Crops per step, over all devices together.")
    lr: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto", description="Highest learning rate; auto: 4e-4, in a probe 4e-3, the paper's 1e-4."
    )
    layer_decay: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = Field(
        "auto",
        description="lr factor per layer towards the input; auto: 0.85, 1 from scratch or LoRA, paper 0.65 others.",
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW weight decay of matrices.")
    warmup: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto", description="Warm-up steps; auto: 1500, at most a tenth of all."
    )
    power: float = Field(1.0, gt=0, description="Power of the polynomial decay to 0.")
    freeze_layers: int = Field(
        0, ge=0, description="Leave the patch embedding and this many first layers as they are; 0: none."
    )
    lora: int | None = Field(
        None, ge=1, description="Train adapters of this rank on the frozen backbone; none: the backbone itself."
    )
    drop_path: float = Field(0.1, ge=0, lt=1, description="Stochastic depth rate of every block; 0 in a linear probe.")
    crop: Literal["auto"] | Annotated[int, Field(ge=16)] = Field(
        "auto", description="Side of crops and, later, windows, in pixels; auto: 512, 256 on the CPU."
    )
    base: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = Field(
        None, description="Long and short side that ratio multiplies, in pixels; none: larger for small objects."
    )
    ratio: tuple[float, float] | None = Field(
        None, description="Range of the random resize; none: 0.75 to 1.5, the paper's 0.5 to 2, 1 in a probe."
    )
    cat_max_ratio: float = Field(0.75, gt=0, le=1, description="A crop that one class fills more than this is redrawn.")
    flip: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    photometric: bool | Literal["auto"] = Field(
        "auto", description="Distort brightness and contrast (and colours); auto: as in the paper, not in fast."
    )
    corrupt: float | None = Field(
        None, ge=0, le=1, description="Probability of one random corruption of severity 1 to 3."
    )
    rare_crops: float = Field(
        0.0, ge=0, le=1, description="Share of the crops drawn to show a class, each foreground class as often."
    )
    cache: Cache | Literal["gpu"] = Field(
        "auto", description="Keep decoded pairs in memory; gpu: grey ones on the GPU, which then cuts the crops too."
    )
    cache_features: bool | Literal["auto"] = Field(
        "auto", description="Linear probe: compute features once; auto: where they stay the same and fit the memory."
    )

    @field_validator("ratio")
    @classmethod
    def _is_a_range(cls, ratio: tuple[float, float] | None) -> tuple[float, float] | None:
        if ratio is not None and not 0 < ratio[0] <= ratio[1]:
            raise ValueError("ratio must be two rising numbers above 0")
        return ratio

    @model_validator(mode="after")
    def _fit_together(self) -> FinetuneConfig:
        if self.eval_every is not None and self.val is None:
            raise UnipError("eval_every needs a split to evaluate on", "Add --val SPLIT, of other images than --split.")
        if self.patience is not None and self.eval_every is None:
            raise UnipError("patience counts evaluations, but there are none", "Add --eval-every STEPS.")
        if self.mode == "linear" and (self.lora is not None or self.freeze_layers):
            option = "lora" if self.lora is not None else "freeze_layers"
            raise UnipError(f"mode linear freezes the whole backbone: {option} has no place in it", "Leave one out.")
        return self

    def resumable(self) -> frozenset[str]:
        """Return what may differ in a continuation: not the split that the best weights are chosen on."""
        return super().resumable() - ({"val"} if self.eval_every is not None else set())

    def is_open(self, name: str) -> bool:
        """Say whether a setting is left to be chosen."""
        return super().is_open(name) or (name in ("base", "ratio", "layers") and not getattr(self, name))


class ResolvedConfig(FinetuneConfig):
    """A fine-tuning in which nothing is left open (see :mod:`unip.segment.defaults`)."""

    decoder: Decoder
    channels: int
    auxiliary_weight: float
    lr: float
    layer_decay: float
    warmup: int
    crop: int
    base: tuple[int, int]
    ratio: tuple[float, float]
    photometric: bool
    cache_features: bool


@dataclass(frozen=True)
class FinetuneResult:
    """The run folder (a model for evaluate and predict), how training went, and the scores on ``val`` if given.

    Only the first rank writes the model and evaluates it; the others return before that is done, without scores.
    """

    run: Path
    training: TrainResult
    scores: Scores | None


@verb(FinetuneConfig)
def finetune(config: FinetuneConfig) -> FinetuneResult | None:
    """Fine-tune a backbone for segmentation, or probe it.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Data, backbone or settings do not fit together; the loss is not finite; the disk is full.
        Interrupted: Stopped by a signal; the same call continues.
    """
    run = RunFolder(config.out)
    given = run.adopt(config)
    accelerator = make_accelerator(given)
    main = accelerator.is_main_process

    data = open_segmentation(given.data, given.split, remap=given.remap)
    reading = given.resolve_reading(data.reading)
    given, data = given.model_copy(update=dict(reading)), replace(data, reading=reading)
    val = check_val(given, data) if given.val is not None else None
    if given.labels is not None:
        data = few_labels(data, given.labels, given.label_seed)
    labels = label_facts(data)
    torch.manual_seed(given.seed)  # weights from scratch and heads
    backbone = load_backbone(given.model, drop_path=0.0 if given.mode == "linear" else given.drop_path)
    on_gpu = accelerator.device.type == "cuda"
    facts = Facts.of(labels, backbone, on_gpu=on_gpu, ranks=accelerator.num_processes)
    config, reasons = resolve(given, facts)
    compiled, why = compiling(config, facts)
    if compiled != config.compile:
        reasons.append(f"compile {shown(compiled)}: {why}")
    check_batch(config, accelerator)
    segmenter = build(config, backbone, data)
    adapted = restrict(config, segmenter)
    if config.checkpoint_activations and config.mode == "full":  # a frozen backbone keeps no activations
        backbone.model.set_grad_checkpointing(True)  # type: ignore[operator]
    if on_gpu:
        segmenter.to(memory_format=torch.channels_last)  # the layout that half-precision convolutions run in
    pixel_loss = make_loss(config, data, labels.pixels)
    loss = CachedLoss if config.cache_features else SegmentationLoss
    model = loss(segmenter, pixel_loss, frozen_backbone=config.mode == "linear")
    if main:
        for line in [
            *describe(config, backbone, data, labels.pixels, segmenter, adapted),
            describe_loss(config, data, pixel_loss),
            *reasons,
        ]:
            say(line)
    run.open(config, main_process=main)
    if config.dry_run:
        say(f"one forward pass: {forward_shapes(segmenter, config)}")
        say(f"dry run: would train in {config.out} on {accelerator.device}; nothing was written")
        return None

    if accelerator.num_processes > 1 and on_gpu:  # torch has none for the CPU
        nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)  # type: ignore[no-untyped-call]
    trainable = Trainable(
        model=model,
        saved=segmenter,
        dataset=make_dataset(config, segmenter, data, accelerator),
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
        evaluation=make_evaluation(config, segmenter, val, accelerator.device),
    )
    # how it is compiled is not recorded, so that the run may go on, and be repeated, on another machine
    done = train(trainable, config.model_copy(update={"compile": compiled}), run, accelerator)
    scores = None
    merge_adapters(segmenter)
    if main:
        save_segmenter(segmenter, run.model, info=model_info(config, backbone, data, done))
        say(f"trained for {done.steps} steps; the model is {run.model}")
        if done.best is not None and done.best.score is not None:
            said = f"of step {done.best.step}, with {percent(done.best.score)} % mIoU on {config.val}"
            say(f"its weights are the best, those {said}")
        scores = final_scores(config, run)
    return FinetuneResult(run.path, done, scores)


def resolve(config: FinetuneConfig, facts: Facts) -> tuple[ResolvedConfig, list[str]]:
    """Choose what was left open, and say why, a line each.

    Raises:
        UnipError: Settings that were given do not fit together.
    """
    chosen, reasons = choose(config, facts)
    return ResolvedConfig.make(**{**config.model_dump(), **chosen}), reasons


def check_val(config: FinetuneConfig, data: SegmentationData) -> SegmentationData:
    """Return the data to evaluate on, checked now rather than after hours of training.

    Raises:
        UnipError: It is missing, damaged, without any label, or has other classes than the training data.
    """
    val = open_segmentation(config.data, config.val, remap=config.remap)
    if val.classes.names != data.classes.names:
        raise UnipError(
            f"{config.val} has the classes {list(val.classes.names)}, {config.split} {list(data.classes.names)}",
            "Use one classes.json for both.",
        )
    val = replace(val, reading=data.reading)
    counts = check_segmentation(val)
    if config.eval_every is not None and not sum(counts[name] for name in val.classes.names):
        raise UnipError(f"{config.val} has no labelled pixel to choose weights by", "Choose another --val.")
    return val


def make_evaluation(
    config: ResolvedConfig, segmenter: Segmenter, val: SegmentationData | None, device: torch.device
) -> Evaluation | None:
    """Return how the weights are judged while they are trained: by their mIoU on ``val``."""
    if config.eval_every is None or val is None:
        return None
    dtype = choose_precision(config.precision, device)
    return Evaluation(
        score=partial(quick_miou, segmenter, val, device=device, dtype=dtype, workers=config.workers),
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
            reading=data.reading or DEFAULT,
        ),
        backbone.model,
    )


def restrict(config: ResolvedConfig, segmenter: Segmenter) -> int:
    """Freeze what is not to be trained and add adapters; return how many weights have one.

    Raises:
        UnipError: There are not so many layers, or the rank is too high.
    """
    if config.lora is not None:
        return len(add_adapters(segmenter, config.lora, frozen_layers=config.freeze_layers))
    if config.freeze_layers:
        freeze_layers(segmenter, config.freeze_layers)
    return 0


def make_dataset(
    config: ResolvedConfig, segmenter: Segmenter, data: SegmentationData, accelerator: Accelerator
) -> SegmentationTrainDataset | DeviceCrops | CachedFeatures:
    """Return the augmented training crops, cut by the GPU where it can, or of features that are computed now.

    Raises:
        UnipError: A pair cannot be read, or ``cache`` asks of a GPU what it cannot do.
    """
    transform = make_transform(config, segmenter.spec.mean)
    if config.cache_features:
        segmenter.to(accelerator.device)
        precision = accelerator.autocast()
        return CachedFeatures(segmenter, data, transform, seed=config.seed, autocast=precision)
    dataset = SegmentationTrainDataset(
        data,
        transform,
        seed=config.seed,
        cache="ram" if config.cache == "gpu" else config.cache,
        corrupt=config.corrupt or 0.0,
        rare_crops=config.rare_crops,
    )
    return on_device(dataset, config, accelerator.device)


def make_transform(config: ResolvedConfig, mean: tuple[float, float, float]) -> SegmentationTrainTransform:
    """Return the augmentation, whose crops are padded with the colour ``mean`` (0..1) as the model pads."""
    red, green, blue = mean
    return SegmentationTrainTransform(
        crop=config.crop,
        ratio=config.ratio,
        base=config.base,
        cat_max_ratio=config.cat_max_ratio,
        flip=config.flip,
        photometric=config.photometric,
        fill=(round(255 * red), round(255 * green), round(255 * blue)),
    )


def on_device(
    dataset: SegmentationTrainDataset, config: ResolvedConfig, device: torch.device
) -> SegmentationTrainDataset | DeviceCrops:
    """Let the GPU cut the crops, where it can.

    Raises:
        UnipError: It cannot, though ``cache`` is ``gpu``.
    """
    possible = config.cache in ("auto", "gpu") and fits(dataset, device)
    if config.cache == "gpu" and not possible:
        raise UnipError(
            f"cache gpu: crops of these frames cannot be cut on {device}",
            "It takes a GPU with enough free memory, grey frames and no --corrupt; use --cache auto.",
        )
    return DeviceCrops(dataset, device) if possible else dataset


def describe(
    config: ResolvedConfig,
    backbone: Backbone,
    data: SegmentationData,
    counts: dict[str, int],
    segmenter: Segmenter,
    adapted: int = 0,
) -> list[str]:
    """Say what will be trained."""
    spec = segmenter.spec
    pixels = max(1, sum(counts.values()))
    shares = ", ".join(f"{name} {percent(count / pixels)} %" for name, count in counts.items())
    trained = count_parameters(p for p in segmenter.parameters() if p.requires_grad)
    drop_path = 0.0 if config.mode == "linear" else config.drop_path
    decoder = (
        spec.decoder if spec.decoder == "linear" else f"{spec.decoder} on {spec.pyramid}, {spec.channels} channels"
    )
    idle = spec.reading.conversion != DEFAULT.conversion and data.read_samples(0, spec.reading).dtype == np.uint8
    corrupt = f", {percent(config.corrupt)} % of them corrupted" if config.corrupt else ""
    judged = f"every {config.eval_every} steps and after the last one on {config.val}; the best weights are the result"
    patience = f"; the end after {config.patience} evaluations without better ones" if config.patience else ""
    rare = f", {percent(config.rare_crops)} % of them drawn for a class" if config.rare_crops else ""
    return [
        str(backbone.report or f"{config.model}: random weights"),
        f"{len(data)} labelled images: {shares}",
        f"counts become grey by {spec.reading.describe()}",
        *["note: 8-bit frames, as the first one is, keep their values whatever the conversion"] * idle,
        f"decoder {decoder}, layer {', '.join(map(str, spec.layers))} of {segmenter.depth}, "
        f"auxiliary weight {spec.auxiliary_weight:g}",
        f"{count_parameters(segmenter.parameters()) / 1e6:.2f} M parameters, {trained:,} of them trained",
        *[f"patch embedding and first layers stay as they are, {config.freeze_layers} of {segmenter.depth}"]
        * (config.freeze_layers > 0),
        *[f"LoRA of rank {config.lora} on {adapted} weights of the frozen backbone, merged in the end"] * (adapted > 0),
        f"{config.steps} steps of {config.batch_size} crops of {config.crop}{rare}{corrupt} "
        f"({config.steps * config.batch_size / len(data):.1f} epochs), lr {config.lr:g}, "
        f"layer decay {config.layer_decay:g}, warm-up {config.warmup}, drop path {drop_path:g}",
        *[f"evaluation {judged}{patience}"] * (config.eval_every is not None),
    ]


def make_loss(config: ResolvedConfig, data: SegmentationData, counts: dict[str, int]) -> PixelLoss:
    """Return the loss, its weights from the training pixels of each class."""
    pixels = [counts[name] for name in data.classes.names]
    return PixelLoss(
        weights=class_weights(pixels, config.class_weights),
        hard_pixels=config.hard_pixels,
        dice=config.loss == "ce+dice",
    )


def describe_loss(config: ResolvedConfig, data: SegmentationData, loss: PixelLoss) -> str:
    """Say what is minimised, with the weight of each class."""
    said = "loss: cross-entropy"
    if loss.weights is not None:
        each = zip(data.classes.names, loss.weights.tolist(), strict=True)
        weights = ", ".join(f"{name} {weight:.3g}" for name, weight in each)
        said += f", weights {config.class_weights} (at most {MAX_WEIGHT:g}): {weights}"
    if loss.hard_pixels is not None:
        said += f", of the hardest {percent(loss.hard_pixels)} % of the pixels and of all that are not sure"
    return said + "; and dice" * loss.dice


@torch.no_grad()
def forward_shapes(segmenter: Segmenter, config: ResolvedConfig) -> str:
    """Run one black crop and say the shapes on the way."""
    segmenter.eval()
    images = torch.zeros(1, 3, config.crop, config.crop, dtype=torch.uint8)
    levels = [tuple(level.shape[1:]) for level in segmenter.levels(images)]
    name = "features" if segmenter.spec.decoder == "linear" else "levels"
    return f"image {tuple(images.shape[1:])}, {name} {levels}, logits {tuple(segmenter(images).shape[1:])}"


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
    """Evaluate the saved model on ``val``."""
    if config.val is None:
        return None
    result = evaluate(
        EvaluateConfig.make(
            model=run.path,
            data=config.data,
            remap=config.remap,
            split=config.val,
            device=config.device,
            precision=config.precision,
            workers=config.workers,
        )
    )
    return None if result is None else result.scores
