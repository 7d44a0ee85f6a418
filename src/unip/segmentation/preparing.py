"""Getting a fine-tuning ready: labels are read, everything left open is chosen, and the model is built."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator

from unip.data.images.conversion import DEFAULT
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.record import CheckedLabels
from unip.errors import UnipError
from unip.paths import status
from unip.runtime.device import native_bfloat16
from unip.segmentation.adapters import add_adapters, freeze_layers
from unip.segmentation.budgeting import keep_within, measure_costs
from unip.segmentation.compiling import choose_compile, kernels_of
from unip.segmentation.config import FinetuneConfig, ResolvedConfig
from unip.segmentation.continuing import find_continued, left_out
from unip.segmentation.defaults import TaskFacts, choose, shown
from unip.segmentation.labels import TaskLabels, check_task
from unip.segmentation.losses import PixelLoss, class_weights
from unip.segmentation.model import CachedLoss, SegmentationLoss, Segmenter, SegmenterSpec
from unip.segmentation.pseudo import PseudoLabels, open_pseudo
from unip.segmentation.recipes import settle
from unip.segmentation.training_data import check_cache, make_rare_crops
from unip.segmentation.training_images import TrainingImages
from unip.training.run_folder import RunFolder
from unip.training.schedule import check_warmup
from unip.vit.ancestry import ancestors_of
from unip.vit.backbone import Backbone, load_backbone
from unip.vit.shape import heads_of
from unip.vit.spec import set_last_heads
from unip.zoo.lineage import Lineage, data_ancestor


@dataclass(frozen=True)
class Preparation:
    """A fine-tuning that can start.

    Attributes:
        config: The settings, nothing of them left open.
        on_machine: The same with the way of compiling that suits this machine. That is not recorded, so that the run
            may go on, and be repeated, on another one.
        kernels: What its compiled kernels depend on.
        reasons: Why what was left open is chosen so, a line each.
        accelerator: Device, ranks and precision.
        labels: What is trained and evaluated on.
        backbone: As it was loaded.
        model: The loss of the segmenter, which is what training runs.
        adapted: How many weights have an adapter.
        continued: Whether decoder and classes are those of a segmentation model, trained further.
        model_given: Whether the model was named, and is not the one that is taken by default.
        lineage: What the model is made from.
        pseudo: Frames with pseudo-labels to train on, too.
    """

    config: ResolvedConfig
    on_machine: ResolvedConfig
    kernels: dict[str, str]
    reasons: list[str]
    accelerator: Accelerator
    labels: TaskLabels
    backbone: Backbone
    model: SegmentationLoss
    adapted: int
    continued: bool
    model_given: bool
    lineage: Lineage
    pseudo: PseudoLabels | None = None

    @property
    def main(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return bool(self.accelerator.is_main_process)

    @property
    def on_gpu(self) -> bool:
        """Whether it trains on a GPU."""
        return bool(self.accelerator.device.type == "cuda")

    @property
    def data(self) -> SegmentationData:
        """The pairs to train on."""
        return self.labels.train.data

    @property
    def segmenter(self) -> Segmenter:
        """The segmentation model."""
        return self.model.segmenter


def prepare(
    given: FinetuneConfig,
    run: RunFolder,
    data: SegmentationData,
    val: SegmentationData | None,
    accelerator: Accelerator,
) -> Preparation:
    """Read the labels, choose what is left open, and build the model; arguments are those of ``train_segmenter``.

    Raises:
        UnipError: Data, backbone or settings do not fit together.
    """
    begun, model_given = time.monotonic(), "model" in given.model_fields_set
    continued = find_continued(given, data.classes)
    if continued:
        given, data = continued.adopt(given, data)
    conversion = given.resolve_conversion(data.conversion)
    given, data = given.model_copy(update=conversion.as_settings()), replace(data, conversion=conversion)
    on_gpu = accelerator.device.type == "cuda"
    given, settled = settle(given, on_gpu=on_gpu, ranks=accelerator.num_processes)
    torch.manual_seed(given.seed)  # weights from scratch and heads
    backbone = load_backbone(given.model, drop_path=0.0 if given.frozen else given.drop_path)
    labels = check_task(given, run, data, val)
    given = given.model_copy(update=labels.holding.settings)
    pseudo = None
    if given.pseudo is not None:
        pseudo = open_pseudo(given.pseudo, labels.train.data, labels.val.data.images if labels.val else ())
    facts = TaskFacts.of(labels.facts, backbone, on_gpu=on_gpu, ranks=accelerator.num_processes)
    config, chosen = choose(given, facts)
    if config.minutes:
        config, chosen = keep_minutes(given, config, facts, backbone, labels, accelerator, begun)
    reasons = [
        *labels.drawn,
        *(pseudo.describe(config.pseudo_share) if pseudo else []),
        *labels.holding.lines,
        *settled,
        *chosen,
    ]
    if config.precision == "auto" and not on_gpu and accelerator.mixed_precision == "bf16":
        reasons.append(f"precision bf16, which this processor computes fast ({native_bfloat16()})")
    check_warmup(config.warmup, config.steps)
    kernels = kernels_of(config, backbone.spec, len(labels.train.data.classes.names), accelerator.device)
    compiled, why = choose_compile(config, facts, kernels)
    if compiled != config.compile:
        reasons.append(f"compile {shown(compiled)}: {why}")
    check_batch(config, accelerator)
    check_cache(config, accelerator.device)
    make_rare_crops(config, labels.train)  # refuses where there is nothing to draw them for
    segmenter = build(config, backbone, labels.train)
    if continued:
        continued.fill(segmenter)
    reasons = [*(continued.describe(segmenter) if continued else left_out(given)), *reasons]
    adapted = freeze_and_adapt(config, segmenter)
    if config.checkpoint_activations and config.mode == "full":  # a frozen backbone keeps no activations
        backbone.model.set_grad_checkpointing(True)  # type: ignore[operator]
    if on_gpu:
        segmenter.to(memory_format=torch.channels_last)  # the layout that half-precision convolutions run in
    pixel_loss = make_loss(config, data, labels.facts.pixels)
    loss = CachedLoss if config.cache_features else SegmentationLoss
    model = loss(segmenter, pixel_loss, frozen_backbone=config.frozen)
    on_machine = config.model_copy(update={"compile": compiled})
    return Preparation(
        config=config,
        on_machine=on_machine,
        kernels=kernels,
        reasons=reasons,
        accelerator=accelerator,
        labels=labels,
        backbone=backbone,
        model=model,
        adapted=adapted,
        continued=bool(continued),
        model_given=model_given,
        lineage=lineage_of(config, backbone, labels.train.data, pseudo),
        pseudo=pseudo,
    )


def lineage_of(
    config: ResolvedConfig, backbone: Backbone, data: SegmentationData, pseudo: PseudoLabels | None = None
) -> Lineage:
    """Return what a model is made from: its backbone, the labelled images with their masks, and pseudo-labels.

    Raises:
        UnipError: The card of the data, or the lineage of the backbone, cannot be read.
    """
    files = dict.fromkeys([*data.images, *(mask.path for mask in data.masks)])
    listed = [(file.name, status(file).st_size) for file in files]
    card = data_ancestor(config.data.name or str(config.data), data.images[0].parent, listed)
    return Lineage.of([*ancestors_of(backbone, "init"), card, *(pseudo.ancestors() if pseudo else [])])


def keep_minutes(
    given: FinetuneConfig,
    config: ResolvedConfig,
    facts: TaskFacts,
    backbone: Backbone,
    labels: TaskLabels,
    accelerator: Accelerator,
    begun: float,
) -> tuple[ResolvedConfig, list[str]]:
    """Choose again with what has to be left out to stay within the minutes, see :mod:`unip.segmentation.budget`.

    Raises:
        UnipError: The time of training cannot be foreseen, as features are not cached; or they take too much memory.
    """
    if not config.cache_features:
        raise UnipError(
            "minutes are for features that are computed once, and here they are not",
            "Give --minutes 0, or settings that let features be cached: --recipe quick.",
        )
    if not any(map(given.is_open, ("flip", "base", "steps"))):
        return choose(given, facts)  # nothing could be left out
    with torch.random.fork_rng():  # so that the weights to come are those without measuring
        segmenter = build(config, backbone, labels.train)
        trial = CachedLoss(segmenter, make_loss(config, labels.train.data, labels.facts.pixels), frozen_backbone=True)
        costs = measure_costs(trial, config, labels.train, accelerator, begun)
    changes, lines = keep_within(given, config, segmenter, labels.train, costs)
    config, chosen = choose(given.model_copy(update=changes), facts)
    return config, [*chosen, *lines]


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


def build(config: ResolvedConfig, backbone: Backbone, labels: CheckedLabels) -> Segmenter:
    """Put a resolved config's decoder on a backbone."""
    spec, data = backbone.spec, labels.data
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
            images=TrainingImages.of(labels.facts, data.channel),
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
