"""`unip demo`: the whole workflow on synthetic scenes, on two CPU cores in a few minutes."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from unip.analysis.config import AnalyzeConfig
from unip.analysis.verbs import analyze
from unip.data.synthetic.config import ScenesConfig
from unip.data.synthetic.files import write_scenes
from unip.demonstration.config import INITS, DemoConfig
from unip.demonstration.page import render_demo_page
from unip.deployment.config import PredictConfig
from unip.deployment.verbs import evaluate, predict
from unip.log import TableMessage
from unip.outputs import write_json, write_text
from unip.pretraining.config import PretrainConfig
from unip.pretraining.verbs import pretrain
from unip.segmentation.config import EvaluateConfig, FinetuneConfig
from unip.segmentation.metrics import Scores
from unip.segmentation.verbs import finetune

log = logging.getLogger(__name__)

SIDE = 160  # pixels: short side and crops of the small student; ten patches a side take minutes on two cores
ZOO_SIDES = (384, 256)  # pixels: short side and crops of the zoo's model; smaller crops cost it 6 to 10 mIoU
SCENE_SIZE = (256, 320)
ZOO_MODEL = "unip-ir-tiny"
SHOWN = 4  # test frames on the page
TEACHER_FILE = Path(str(files("unip.demonstration").joinpath("teacher.safetensors")))


@dataclass(frozen=True)
class DemoResult:
    """Where the page is, and the test mIoU of each seed by init (``scratch``, ``distilled``, ``zoo``)."""

    page: Path
    miou: dict[str, list[float]]


def run_demo(config: DemoConfig) -> DemoResult:
    """Do what is left of :func:`unip.demonstration.verbs.demo` once the folder is open."""
    begun = time.monotonic()
    out, (train, test) = config.out, config.scenes
    log.info(f"1/5  {train + test} thermal and visible scenes")
    scenes = out / "scenes"
    write_scenes(
        ScenesConfig.make(
            out=scenes, count=train + test, size=SCENE_SIZE, splits=(train, 0, test), overwrite=config.overwrite
        )
    )
    teacher = str(TEACHER_FILE)
    log.info("2/5  the teacher's attention, layer by layer")
    thermal = f"infrared={scenes}/train/images"
    inspected = analyze(
        AnalyzeConfig.make(
            models=(teacher,),
            images=(thermal,),
            out=out / "analysis",
            size=SIDE,
            normalization="infmix",
            max_images=64,
            overwrite=config.overwrite,
        )
    )
    log.info("3/5  distilling its hybrid layer into unip_micro, without labels")
    distilled = pretrain(
        PretrainConfig.make(
            teacher=teacher,
            data=(thermal, f"rgb={scenes}/train/visible"),
            student="unip_micro",
            out=out / "distilled",
            size=SIDE,
            steps=config.distil_steps,
            batch_size=48,
            lr=2e-3,
            clip=1.0,
            compile=False,  # would take longer than these few steps
            probe_images=64,
            picture_every=config.distil_steps,
            checkpoint_every=50,
            overwrite=config.overwrite,
        )
    )
    log.info(
        f"4/5  fine-tuning on {config.label_budget} labelled scenes: from scratch, from the distilled student, "
        f"from {ZOO_MODEL}"
    )
    scores = {init: [fine_tune(config, init, seed) for seed in config.seeds] for init in INITS}
    log.info("5/5  the page")
    masks = {init: predict_some(config, init) for init in INITS}
    results = summarise(config, scores, layer=distilled.layer, loss=distilled.loss, minutes=minutes_since(begun))
    write_json(out / "results.json", results)
    write_text(out / "demo.html", render_demo_page(out, results, inspected.analysis, masks))
    log.info(TableMessage(result_table(scores, config)))
    log.info(f"took {results['minutes']:.1f} minutes; open {out}/demo.html")
    return DemoResult(out / "demo.html", {init: [s.miou for s in found] for init, found in scores.items()})


def fine_tune(config: DemoConfig, init: str, seed: int) -> Scores:
    """Fine-tune one init on few labels with one seed; return its scores on the test scenes."""
    run, scenes = config.out / f"{init}-{seed}", config.out / "scenes"
    settings = zoo_settings(config) if init == "zoo" else student_settings(config, init)
    finetune(
        FinetuneConfig.make(
            data=scenes,
            out=run,
            label_budget=config.label_budget,
            label_seed=seed,
            seed=seed,
            overwrite=config.overwrite,
            **settings,
        )
    )
    result = evaluate(EvaluateConfig.make(model=run, data=scenes, window="whole", worst=6, overwrite=config.overwrite))
    return result.scores


def zoo_settings(config: DemoConfig) -> dict[str, Any]:
    """What a user with a few labels and no GPU gets: a decoder on the frozen model that ships."""
    short, crop = ZOO_SIDES
    return {
        "model": ZOO_MODEL,
        "recipe": "quick",
        "steps": config.zoo_steps,
        "base": (4 * short, short),
        "crop": crop,
        "minutes": 0.0,  # the steps are few; a budget of time would make results differ between machines
    }


def student_settings(config: DemoConfig, init: str) -> dict[str, Any]:
    """All of the small student, in frames small enough for two cores."""
    return {
        "model": str(config.out / "distilled") if init == "distilled" else "unip_micro",
        "recipe": "paper",
        "decoder": "light",
        "channels": 64,
        "steps": config.finetune_steps,
        "batch_size": 8,
        "lr": 1e-3,
        "layer_decay": 1.0,
        "clip": 1.0,
        "compile": False,
        "crop": SIDE,
        "base": (4 * SIDE, SIDE),
        "ratio": (0.75, 1.5),
        "drop_path": 0.0,
        "checkpoint_every": 60,
    }


def predict_some(config: DemoConfig, init: str) -> list[Path]:
    """Segment the first test frames with the first seed's model; return the mask files."""
    frames = sorted((config.out / "scenes/test/images").glob("*.png"))[:SHOWN]
    model = config.out / f"{init}-{config.seeds[0]}"
    result = predict(
        PredictConfig.make(
            model=model, images=frames, out=config.out / "predictions" / init, overwrite=config.overwrite
        )
    )
    return [result.masks[frame] for frame in frames]


def summarise(
    config: DemoConfig, scores: dict[str, list[Scores]], *, layer: int, loss: float, minutes: float
) -> dict[str, Any]:
    """Put what came out into JSON values."""
    return {
        "label_budget": config.label_budget,
        "seeds": list(config.seeds),
        "teacher_layer": layer,
        "final_kl": loss,
        "minutes": minutes,
        "classes": list(scores[INITS[0]][0].names),
        "miou": {init: [s.miou for s in found] for init, found in scores.items()},
        "iou": {init: mean_iou(found) for init, found in scores.items()},
    }


def mean_iou(scores: list[Scores]) -> list[float | None]:
    """Each class's IoU, averaged over the seeds in which it has one; None where it has none."""
    columns = np.stack([s.iou for s in scores], axis=1)
    return [None if np.isnan(column).all() else float(np.nanmean(column)) for column in columns]


def minutes_since(begun: float) -> float:
    """Minutes since a monotonic time."""
    return (time.monotonic() - begun) / 60


def result_table(scores: dict[str, list[Scores]], config: DemoConfig) -> Table:
    """Lay out both mIoUs, seed by seed."""
    table = Table("init", title=f"Test mIoU after fine-tuning on {config.label_budget} labelled scenes")
    several = len(config.seeds) > 1
    for heading in (*(f"seed {seed}" for seed in config.seeds), "mean ± sd" if several else "mean"):
        table.add_column(heading, justify="right")
    for init, found in scores.items():
        values = np.array([100 * s.miou for s in found])
        spread = f" ± {values.std(ddof=1):.1f}" if several else ""
        table.add_row(init, *(f"{value:.1f}" for value in values), f"{values.mean():.1f}{spread}")
    return table
