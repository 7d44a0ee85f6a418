"""`unip pretrain --recipe adapt`: a start and frames are given, everything else that is left open is chosen here.

Two teachers, of which the start itself is one, half of the crops distorted, and three quarters of the old weights in
what is saved: the values of the suite scenes_first (docs/lab-notes.md).
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pyarrow as pa

from unip.errors import UnipError
from unip.pretraining.config import PretrainConfig
from unip.pretraining.recipes import ADAPT
from unip.vit.backbone import load_backbone
from unip.vit.shape import depth_of

log = logging.getLogger(__name__)

TEACHER = "clip-base"  # the better one, on streets and drones (docs/lab-notes.md)
CPU_TEACHER = "dinov2-small"  # a quarter of the work
MOST_CROPS = 800 * 512  # of the suite zoo
FEWEST_CROPS = 400 * 128  # gave most of the gain (docs/lab-notes.md)
CROPS_PER_FRAME = 512  # between the two: fewer frames have less to show
FEWEST_STEPS = 400
BATCHES = (128, 512)  # fewest and most crops a step on a GPU
CPU_BATCH = 32
REGIONS = (128, 444)  # pixels across that a crop shows: those of the suite zoo, in frames of 640x512


def choose(config: PretrainConfig, table: pa.Table, *, on_gpu: bool) -> tuple[PretrainConfig, list[str]]:
    """Choose what is left open, apart from what the machine decides (:mod:`unip.pretraining.timing`).

    Args:
        config: The settings; those that were given are set.
        table: The frames.
        on_gpu: Whether it is trained on a GPU.

    Returns:
        The settings, and a line for each choice that depends on something.
    """
    given, frames = config.model_fields_set, table.num_rows
    batch, steps = size_of_training(frames, on_gpu=on_gpu)
    if "batch_size" in given:
        steps = math.ceil(batch * steps / config.batch_size)
    lengths = {"steps", "epochs"} & given
    area = float(np.median(table["width"].to_numpy().astype(np.float64) * table["height"].to_numpy()))
    found: dict[str, Any] = {**ADAPT, "batch_size": batch, "scale": scale_of(area)}
    found |= {} if lengths else {"steps": steps}
    lines = []
    if "teacher" not in given:
        names, teachers = choose_teachers(config, TEACHER if on_gpu else CPU_TEACHER)
        found |= names
        lines.append(teachers)
    open_ones = {name: value for name, value in found.items() if name not in given}
    chosen = PretrainConfig.make(**{**config.model_dump(), **open_ones})
    total = chosen.count_steps(frames) * chosen.batch_size
    low, high = (math.sqrt(share * area) for share in chosen.scale)
    lines += [
        f"{total:,} crops of {frames:,} frames, {total / frames:,.0f} of each: {chosen.batch_size} a step"
        + " on the CPU, fewer than on a GPU" * (not on_gpu and not lengths),
        f"scale {chosen.scale[0]:.2g} to {chosen.scale[1]:.2g}: a crop shows {low:.0f} to {high:.0f} px of a frame",
        f"init share {chosen.init_share:g}: what is saved keeps so much of the start's weights",
    ]
    return chosen, lines


def size_of_training(frames: int, *, on_gpu: bool) -> tuple[int, int]:
    """Return crops a step and steps: more crops where there are more frames, and 400 steps or more."""
    if not on_gpu:
        return CPU_BATCH, FEWEST_CROPS // CPU_BATCH
    crops = min(max(CROPS_PER_FRAME * frames, FEWEST_CROPS), MOST_CROPS)
    batch = 2 ** int(math.log2(crops / FEWEST_STEPS))
    batch = min(max(batch, BATCHES[0]), BATCHES[1])
    return batch, math.ceil(crops / batch)


def scale_of(area: float) -> tuple[float, float]:
    """Return the share of a frame that crops cover, such that objects are as large as in the suite zoo.

    Args:
        area: Of a frame, in pixels.
    """
    low, high = (min(1.0, side**2 / area) for side in REGIONS)
    return float(f"{min(low, 0.2):.2g}"), float(f"{high:.2g}")  # of small frames some crops show a part, too


def choose_teachers(config: PretrainConfig, teacher: str) -> tuple[dict[str, Any], str]:
    """Take a model and the start as teachers, and the start alone where the model cannot be loaded.

    Alone, the start teaches two of its layers to themselves: the student, which sees distorted crops, learns to see in
    them what the start sees in clean ones.
    """
    depth = depth_of(load_backbone(config.init, random_weights=True).model)
    middle = max(1, round(depth * 2 / 3))
    log.info(f"looking for the teacher {teacher}")
    try:
        load_backbone(teacher)
    except UnipError as error:
        layers = (middle, depth) if middle < depth else (depth,)
        found = {"teacher": (config.init,) * len(layers), "teacher_layer": layers, "student_layers": layers}
        names = " and ".join(map(str, layers))
        return found, (
            f"teacher: the start itself (layers {names}), since {teacher} cannot be loaded ({error.what}); the student "
            "only learns to see in distorted crops what the start sees in clean ones"
        )
    if depth < 2:
        return {"teacher": (teacher,)}, f"teacher: {teacher}"
    layers_of_both = ("auto", middle)
    return (
        {"teacher": (teacher, config.init), "teacher_layer": layers_of_both},
        f"teachers: {teacher}, and layer {middle} of the start itself",
    )
