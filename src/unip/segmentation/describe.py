"""Saying what a fine-tuning will do before it does it."""

from __future__ import annotations

import torch

from unip.data.images.conversion import DEFAULT
from unip.data.images.nodata import describe_suspected
from unip.data.labelled.statistics import rare_classes
from unip.segmentation.config import ResolvedConfig
from unip.segmentation.losses import MAX_WEIGHT
from unip.segmentation.metrics import percent
from unip.segmentation.model import PYRAMID_HEADS, Segmenter, describe_decoder
from unip.segmentation.preparing import Preparation
from unip.segmentation.recipes import QUICK_MINUTES, is_random
from unip.training.optim import count_parameters
from unip.training.pace import duration

LONG_SECONDS = 30 * 60


def describe_training(ready: Preparation) -> list[str]:
    """Say what will be trained."""
    config, data, segmenter, counts = ready.config, ready.data, ready.segmenter, ready.labels.facts.pixels
    spec = segmenter.spec
    pixels = max(1, sum(counts.values()))
    shares = ", ".join(f"{name} {100 * count / pixels:.2f} %" for name, count in counts.items())
    trained = count_parameters(p for p in segmenter.parameters() if p.requires_grad)
    layers = f"layer{'s' * (len(spec.layers) > 1)} {', '.join(map(str, spec.layers))}"
    drop_path = 0.0 if config.frozen else config.drop_path
    inner = "" if spec.decoder == "linear" else f", {spec.channels} channels"
    helping = (config.loss != "ce", config.rare_crops, config.class_weights != "none", config.hard_pixels)
    alone = [] if config.mode == "linear" or any(helping) else list(rare_classes(counts))
    absent = [name for name in data.classes.names if not counts[name]]
    palettes = ready.labels.facts.palettes
    in_colour = ", ".join(f"{count} of the palette {name}" for name, count in palettes.items())
    nodata = [facts.nodata for facts in ready.labels.train.facts if facts.nodata is not None]
    idle = spec.conversion.method != DEFAULT.method and ready.labels.train.facts[0].is_8_bit
    corrupt = f", {percent(config.corrupt)} % of them corrupted" if config.corrupt else ""
    inverted = f", {percent(config.inverted)} % of them inverted" if config.inverted else ""
    judged = f"every {config.eval_every} steps and after the last one on {config.val}; the best weights are the result"
    patience = f"; the end after {config.patience} evaluations without better ones" if config.patience else ""
    rare = f", {percent(config.rare_crops)} % of them drawn for a class" if config.rare_crops else ""
    return [
        str(ready.backbone.report or f"{config.model}: random weights"),
        f"{len(data)} labelled images: {shares}",
        *[f"note: rare classes ({', '.join(alone)}); see --rare-crops, --class-weights and --loss ce+dice"]
        * bool(alone),
        *[f"note: no labelled pixel of {', '.join(absent)}, which cannot be learnt"] * bool(absent),
        f"images of more than 8 bits, if any, become grey by {spec.conversion.describe()}",
        *[
            f"note: {describe_suspected(f'{len(nodata)} of {len(data)} images have', nodata, '--nodata')}"
            for _ in nodata[:1]
        ],
        *["note: 8-bit frames, as the first one is, keep their values whatever the conversion"] * idle,
        *[f"note: frames in false colours: {in_colour}; --palette invert turns them back into grey levels"]
        * bool(palettes),
        f"decoder {describe_decoder(spec)}{inner}, {layers} of {segmenter.depth}, "
        f"auxiliary weight {spec.auxiliary_weight:g}",
        f"{count_parameters(segmenter.parameters()) / 1e6:.2f} M parameters, {trained:,} of them trained",
        *[f"patch embedding and first layers stay as they are, {config.freeze_layers} of {segmenter.depth}"]
        * (config.freeze_layers > 0),
        *[f"LoRA of rank {config.lora} on {ready.adapted} weights of the frozen backbone, merged in the end"]
        * (ready.adapted > 0),
        f"{config.steps} steps of {config.batch_size} crops of {config.crop}{rare}{corrupt}{inverted} "
        f"({config.steps * config.batch_size / len(data):.1f} epochs), lr {config.lr:g}, "
        f"layer decay {config.layer_decay:g}, warm-up {config.warmup}, drop path {drop_path:g}",
        *[f"evaluation {judged}{patience}"] * (config.eval_every is not None),
    ]


def describe_loss(ready: Preparation) -> str:
    """Say what is minimised, with the weight of each class."""
    config, loss = ready.config, ready.model.decoder_loss.pixel_loss
    text = "loss: cross-entropy"
    if loss.weights is not None:
        each = zip(ready.data.classes.names, loss.weights.tolist(), strict=True)
        weights = ", ".join(f"{name} {weight:.3g}" for name, weight in each)
        text += f", weights {config.class_weights} (at most {MAX_WEIGHT:g}): {weights}"
    if loss.hard_pixels is not None:
        text += f", of the hardest {percent(loss.hard_pixels)} % of the pixels and of all that are not sure"
    return text + ", plus soft dice" * loss.dice


def describe_pace(config: ResolvedConfig, seconds: float, left: int, *, on_gpu: bool) -> list[str]:
    """Say how long training takes, and how to make it shorter where that is long for a CPU.

    Args:
        config: The settings.
        seconds: That a step takes.
        left: Steps that are left.
        on_gpu: Whether it trains on a GPU.
    """
    lines = [f"{seconds:.2g} s a step: about {duration(seconds * left)} for the {left:,} steps that are left"]
    if not on_gpu and seconds * left > LONG_SECONDS:
        quick = not config.frozen and not is_random(config.model)
        offers = [f"--recipe quick trains a decoder on features that are computed once, in {QUICK_MINUTES:g} minutes"]
        lines.append(f"that is long: {'; '.join([*offers * quick, 'fewer --steps take less time, too'])}")
    return lines


@torch.no_grad()
def forward_shapes(segmenter: Segmenter, config: ResolvedConfig) -> str:
    """Run one black crop and say the shapes on the way."""
    segmenter.eval()
    images = torch.zeros(1, 3, config.crop, config.crop, dtype=torch.uint8)
    levels = [tuple(level.shape[1:]) for level in segmenter.levels(images)]
    name = "levels" if segmenter.spec.decoder in PYRAMID_HEADS else "features"
    return f"image {tuple(images.shape[1:])}, {name} {levels}, logits {tuple(segmenter(images).shape[1:])}"
