"""`unip pretrain`: choose a teacher's hybrid layer and distil its attention into a small student (UNIP, section 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field, field_validator
from torch import nn

from unip.attention.capture import attention_map
from unip.attention.measuring import measure_nmi
from unip.attention.patterns import HYBRID_NMI, LayerChoice, choose_hybrid_layer, name_patterns
from unip.attention.pictures import example_queries, patch_rows, query_sheet
from unip.config import verb
from unip.data.manifest import open_images, paths_of, summary, summary_table, write_manifest
from unip.data.mix import MixDataset, sample_indices, squashed
from unip.data.transforms import INFMIX_MEAN, INFMIX_STD
from unip.errors import UnipError
from unip.files import read_json, write_json
from unip.pretraining.distillation import AttentionDistillation, normalise_grey, resize_to
from unip.progress import say
from unip.training.config import TrainingConfig
from unip.training.feed import Positions
from unip.training.loop import Trainable, TrainResult, make_accelerator, train
from unip.training.optim import count_parameters, parameter_groups
from unip.training.run_folder import RunFolder
from unip.training.schedule import warmup_cosine
from unip.vit.backbone import Backbone, load_backbone
from unip.vit.export import save_backbone
from unip.vit.shape import check_layer, heads_of, patch_size
from unip.vit.spec import BackboneSpec, build_backbone
from unip.vit.student import student_spec


class PretrainConfig(TrainingConfig):
    """What to distil from what, on which images; the defaults are the paper's."""

    teacher: str = Field(description="timm:NAME[.TAG], timm:NAME@FILE, hf:REPO, a checkpoint file or a model folder.")
    data: tuple[str, ...] = Field(
        min_length=1, description="Image folders or manifests; infrared=FOLDER and rgb=FOLDER say what is in them."
    )
    student: str = Field("unip_tiny", description="unip_micro, unip_tiny, unip_small or unip_base.")
    teacher_layer: Literal["auto"] | int = Field(
        "auto", description="Layer to distil, 1-based; auto: NMI nearest to target_nmi on the mix's infrared images."
    )
    exclude_layers: tuple[int, ...] = Field((), description="Layers that auto must not choose.")
    target_nmi: float = Field(HYBRID_NMI, gt=0, lt=1, description="NMI of a hybrid layer.")
    probe_images: int = Field(256, ge=1, description="Infrared images that auto measures.")
    size: int = Field(224, ge=16, description="Side of the training crops, in pixels.")
    scale: tuple[float, float] = Field((0.2, 1.0), description="Share of an image's area that a crop covers.")
    cache: Literal["auto", "ram", "none"] = Field("auto", description="Keep decoded images in memory.")
    batch_size: int = Field(4096, ge=1, description="Samples per step, over all devices together.")
    lr: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto", description="Highest learning rate; auto: 1.5e-4 x batch_size / 256."
    )
    warmup: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto", description="Warm-up steps; auto: a twentieth of all."
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW weight decay of matrices.")
    drop_path: float = Field(0.1, ge=0, lt=1, description="Stochastic depth rate of every student block.")
    picture_every: int = Field(500, ge=0, description="Steps between pictures of both attentions; 0: none.")

    @field_validator("scale")
    @classmethod
    def _is_a_range_of_shares(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError("scale must be two rising numbers above 0 and at most 1")
        return scale


@dataclass(frozen=True)
class PretrainResult:
    """What came out: the model folder, the layer that was distilled, and how training went."""

    model: Path
    layer: int
    loss: float
    training: TrainResult


@verb(PretrainConfig)
def pretrain(config: PretrainConfig) -> PretrainResult | None:
    """Distil a teacher's hybrid attention into a student.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Data, teacher, layer or settings do not fit together; the loss is not finite; the disk is full.
        Interrupted: Stopped by a signal; the same call continues.
    """
    run = RunFolder(config.out)
    config = run.adopt(config)
    accelerator = make_accelerator(config)
    main = accelerator.is_main_process

    table = open_images(config.data)
    teacher = load_backbone(config.teacher)
    if main:
        say(summary_table(summary(table)))
        say(str(teacher.report or f"{config.teacher}: random weights"))
    teacher.model.to(accelerator.device)
    layer, measured = resolve_layer(config, teacher, table, run)
    config = resolve(config, layer=layer, images=table.num_rows)
    Positions(config, start=0, rank=accelerator.process_index, ranks=accelerator.num_processes)  # can it be shared?
    if main:
        for line in measured.get("lines", []):
            say(line)

    torch.manual_seed(config.seed)
    spec = student_spec(config.student, last_heads=heads_of(teacher.model, layer))
    student = build_backbone(spec, drop_path=config.drop_path).to(accelerator.device)
    if config.checkpoint_activations:  # before parts of the student are taken
        student.set_grad_checkpointing(True)  # type: ignore[operator]
    model = AttentionDistillation(teacher.model, student, layer=layer, size=config.size)
    trained = count_parameters(p for p in student.parameters() if p.requires_grad)
    if main:
        say(
            f"student {config.student}: {count_parameters(student.parameters()) / 1e6:.2f} M parameters, "
            f"{trained / 1e6:.2f} M trained, {model.teacher.num_heads} heads in the last block; "
            f"{config.steps} steps of {config.batch_size}, lr {config.lr:.3g}, warm-up {config.warmup}"
        )
    run.open(config, main_process=main)
    if config.dry_run:
        say(f"dry run: would train in {config.out} on {accelerator.device}; nothing was written")
        return None

    if main:
        write_manifest(table, run.path / "manifest.parquet")
        write_json(run.path / "teacher.json", measured)
    dataset = MixDataset(table, size=config.size, seed=config.seed, cache=config.cache, scale=config.scale)
    trainable = Trainable(
        model=model,
        saved=student,
        dataset=dataset,
        groups=parameter_groups(student, lr=float(config.lr), weight_decay=config.weight_decay),
        schedule=warmup_cosine(config.steps, int(config.warmup)),
        betas=(0.9, 0.95),
        compiled=(model.teacher, model.student_trunk),
        picture=lambda: compare_attention(model, table, config),
        picture_every=config.picture_every,
    )
    done = train(trainable, config, run, accelerator)
    if main:
        save_student(run, config, student, spec, teacher, measured, done)
        say(f"distilled layer {layer} to KL {done.last['loss']:.4f}; the student is {run.model}")
    return PretrainResult(model=run.model, layer=layer, loss=done.last["loss"], training=done)


def resolve(config: PretrainConfig, *, layer: int, images: int) -> PretrainConfig:
    """Replace what was left at ``auto`` by numbers."""
    steps = config.count_steps(images)
    return config.model_copy(
        update={
            "teacher_layer": layer,
            "steps": steps,
            "lr": 1.5e-4 * config.batch_size / 256 if config.lr == "auto" else config.lr,
            "warmup": max(1, steps // 20) if config.warmup == "auto" else config.warmup,
        }
    )


def resolve_layer(
    config: PretrainConfig, teacher: Backbone, table: pa.Table, run: RunFolder
) -> tuple[int, dict[str, Any]]:
    """Return the layer to distil, and what was measured to choose it (JSON values; ``lines`` are for people)."""
    if config.teacher_layer != "auto":
        check_layer(teacher.model, config.teacher_layer)
        known = run.path / "teacher.json"
        measured = read_json(known) if run.continues(config) and known.exists() else {}
        if measured.get("layer") == config.teacher_layer:  # what the run measured when it started
            return config.teacher_layer, measured
        return config.teacher_layer, {
            "layer": config.teacher_layer,
            "lines": [f"layer {config.teacher_layer}, as given"],
        }
    if "infrared" not in table["modality"].to_pylist():
        raise UnipError(
            "teacher_layer auto needs infrared images, and the data has none",
            "Give the layer as a number, or mark a folder as infrared=FOLDER.",
        )
    indices = sample_indices(table, "infrared", config.probe_images, config.seed)
    found = measure_nmi(teacher.model, teacher_batches(table, indices, teacher, config))
    values = [found[layer].mean().item() for layer in sorted(found)]
    choice = choose_hybrid_layer(values, target=config.target_nmi, exclude=config.exclude_layers)
    return choice.layer, describe_choice(choice, values, len(indices))


def describe_choice(choice: LayerChoice, values: list[float], images: int) -> dict[str, Any]:
    """Put a measured choice into JSON values."""
    patterns = name_patterns(values)
    lines = [f"layer {n:2d}  NMI {v:.3f}  {p}" for n, (v, p) in enumerate(zip(values, patterns, strict=True), start=1)]
    lines += [f"chosen on {images} infrared images: {choice.reason}", *(f"warning: {w}" for w in choice.warnings)]
    return {**choice.as_json(), "images": images, "nmi": values, "patterns": patterns, "lines": lines}


def teacher_batches(
    table: pa.Table, indices: list[int], teacher: Backbone, config: PretrainConfig
) -> Iterator[torch.Tensor]:
    """Yield whole images squashed to the crop size, as the teacher will see them in distillation."""
    student_patch = patch_size(build_backbone(student_spec(config.student)))
    side = config.size // student_patch * patch_size(teacher.model)
    device = next(teacher.model.parameters()).device
    for first in range(0, len(indices), 32):
        some = table.take(indices[first : first + 32])
        images = squashed(paths_of(some), config.size, readings=some["reading"].to_pylist())
        yield resize_to(normalise_grey(images.to(device)), side)


@torch.no_grad()
def compare_attention(model: AttentionDistillation, table: pa.Table, config: PretrainConfig) -> np.ndarray:
    """Draw what three query tokens attend to in teacher and student (mean over heads), on two images of the mix."""
    infrared = "infrared" in table["modality"].to_pylist()
    indices = sample_indices(table, "infrared" if infrared else None, 2, config.seed)
    some = table.take(indices)
    images = squashed(paths_of(some), config.size, readings=some["reading"].to_pylist())
    device = next(model.parameters()).device
    model.eval()
    sides = model.both(images.to(device))
    model.train()
    trunks = (model.teacher, model.student_trunk)
    maps = [
        attention_map(q.float(), k.float(), trunk.scale).mean(1).cpu().numpy()
        for (q, k), trunk in zip(sides, trunks, strict=True)
    ]
    frames = list(images[:, 0].numpy())
    side = math.isqrt(maps[0].shape[-1] - trunks[0].num_prefix_tokens)
    queries = [example_queries(frame, (side, side)) for frame in frames]
    columns = {
        name: np.stack(
            [
                patch_rows(attention, list(named.values()), trunk.num_prefix_tokens, (side, side))
                for attention, named in zip(found, queries, strict=True)
            ]
        )
        for name, found, trunk in zip(("teacher", "student"), maps, trunks, strict=True)
    }
    return query_sheet(frames, queries, columns)


def save_student(
    run: RunFolder,
    config: PretrainConfig,
    student: nn.Module,
    spec: BackboneSpec,
    teacher: Backbone,
    measured: dict[str, Any],
    done: TrainResult,
) -> None:
    """Write the student as a model folder that says how it was made."""
    info = {
        "method": "NMI-HAD attention distillation (UNIP, ICLR 2025, arXiv 2502.02257)",
        "teacher": config.teacher,
        "teacher_sha256": teacher.report.sha256 if teacher.report else None,
        "teacher_layer": measured["layer"],
        "sources": list(config.data),
        "steps": done.steps,
        "batch_size": config.batch_size,
        "final_loss": done.last["loss"],
        "not_trained": "the last block's projection and MLP and the final norm: the loss does not reach them",
    }
    save_backbone(
        student,
        spec,
        run.model,
        mean=(INFMIX_MEAN,) * 3,
        std=(INFMIX_STD,) * 3,
        input_size=config.size,
        info=info,
    )
