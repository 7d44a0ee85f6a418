"""What `unip pretrain` chooses where a setting is left open, and what it says about too short a training."""

from __future__ import annotations

import math

from torch import nn

from unip.pretraining.config import PretrainConfig
from unip.pretraining.layers import TeacherLayer

PAPER_LR, PAPER_BATCH = 2.4e-3, 4096  # 1.5e-4 x batch / 256 at the paper's batch
LOWEST_LR = 5e-4  # at batch 16 a lower one learns too slowly
#: Fewer than in the shortest pre-training that is known to help: the demo's student sees 12,480.
FEWEST_CROPS = 10_000
#: Crops that gave most of the gain where DeiT-Tiny was adapted: 400 steps of 128 (docs/lab-notes.md).
ENOUGH_CROPS = 50_000


def auto_lr(batch_size: int) -> float:
    """Return the highest learning rate for a batch: the paper's at 4096, with the square root of others, 5e-4 at least.

    The paper's linear rule is made for large batches. With Adam's normalised steps the square root keeps the noise of
    a step alike (Malladi et al., NeurIPS 2022, arXiv 2205.10287). docs/lab-notes.md has measured the rules.
    """
    return max(LOWEST_LR, PAPER_LR * math.sqrt(batch_size / PAPER_BATCH))


def few_crops(config: PretrainConfig) -> str:
    """Say that a training is too short to learn from, and how long would be enough; empty: it is not.

    Args:
        config: The settings; the steps are known.
    """
    crops = config.steps * config.batch_size
    if crops >= FEWEST_CROPS:
        return ""
    enough = math.ceil(ENOUGH_CROPS / config.batch_size)
    return (
        f"{config.steps} steps of {config.batch_size} are {crops:,} crops in all, too few to learn from: adapting a "
        f"model (--init) takes about {ENOUGH_CROPS:,}, which are --steps {enough}; random weights take many more"
    )


def resolve_pretraining(config: PretrainConfig, layers: list[TeacherLayer], *, images: int) -> PretrainConfig:
    """Replace what was left at ``auto`` by numbers."""
    steps = config.count_steps(images)
    return config.model_copy(
        update={
            "teacher_layer": tuple(found.layer for found in layers) or config.teacher_layer,
            "steps": steps,
            "lr": auto_lr(config.batch_size) if config.lr == "auto" else config.lr,
            "warmup": min(max(1, steps // 20), steps - 1) if config.warmup == "auto" else config.warmup,
        }
    )


def resolve_decoder(config: PretrainConfig, student: nn.Module) -> PretrainConfig:
    """Replace the shape of mae's decoder where it was left at ``auto``: the paper's, for small students a lighter."""
    if config.objective != "mae":
        return config
    depth, width = (8, 512) if int(student.embed_dim) >= 384 else (4, 256)  # type: ignore[arg-type]
    return config.model_copy(
        update={
            "decoder_depth": depth if config.decoder_depth == "auto" else config.decoder_depth,
            "decoder_width": width if config.decoder_width == "auto" else config.decoder_width,
        }
    )
