"""`unip pretrain`: a small student learns from a teacher's hybrid attention (UNIP, section 4), or in another way."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from unip.data.manifests.manifest import open_images, summary, summary_table, write_manifest
from unip.data.sampling.pretraining_crops import PretrainDataset, read_row_squares, sample_indices
from unip.data.sampling.pretraining_crops_gpu import DevicePretrainCrops, images_fit
from unip.errors import UnipError
from unip.files import read_json
from unip.log import TableMessage
from unip.outputs import write_json
from unip.pretraining.attention_distillation import AttentionDistillation
from unip.pretraining.config import PretrainConfig
from unip.pretraining.feature_distillation import FeatureDistillation
from unip.pretraining.inputs import normalise_crops
from unip.pretraining.layers import make_targets, resolve_layers
from unip.pretraining.mae import MaskedAutoencoding
from unip.pretraining.objective import Distillation, Objective
from unip.pretraining.sample_noise import WithPositions
from unip.pretraining.speed import speed_up
from unip.pretraining.student import average_with_init, describe_student, make_student
from unip.pretraining.teachers import Target
from unip.training.feed import PositionDataset, Positions
from unip.training.loop import Trainable, TrainResult, make_accelerator, train
from unip.training.optim import parameter_groups
from unip.training.run_folder import RunFolder
from unip.training.schedule import check_warmup, warmup_cosine
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import Backbone, load_backbone
from unip.vit.export import save_backbone
from unip.vit.normalisation import INFMIX_RGB
from unip.vit.shape import depth_of, patch_size
from unip.vit.student import student_spec

log = logging.getLogger(__name__)
SPEED_IMAGES = 64  # on which a faster teacher is compared with itself

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


def train_student(config: PretrainConfig, run: RunFolder) -> PretrainResult | None:
    """Do what is left of :func:`unip.pretraining.verbs.pretrain` once the paths are checked.

    Args:
        config: The settings, with what an earlier call chose where this one continues it.
        run: Where to.
    """
    accelerator = make_accelerator(config)
    main, device = accelerator.is_main_process, accelerator.device

    torch.manual_seed(config.seed)  # what of the weights is random must be the same where the run goes on
    teachers = {source: load_backbone(source) for source in dict.fromkeys(source for source, *_ in config.targets())}
    init = None if config.init == "random" else load_backbone(config.init, drop_path=config.drop_path)
    check_student_layers(config, init)
    table = open_images(config.data)
    if config.max_images is not None:
        table = table.take(sample_indices(table, None, config.max_images, config.seed))
    if config.warmup != "auto":
        check_warmup(config.warmup, config.count_steps(table.num_rows))
    if main:
        log.info(TableMessage(summary_table(summary(table))))
        for source, backbone in [*teachers.items(), *([(config.init, init)] if init else [])]:
            log.info(str(backbone.report or f"{source}: random weights"))
    for backbone in teachers.values():
        backbone.model.to(device)
    patch = patch_size(init.model) if init else int(student_spec(config.student).arguments["patch_size"])
    records = resolve_layers(config, teachers, table, patch=patch, known=known_layers(config, run))
    targets = make_targets(records, teachers)
    config = resolve_pretraining(config, records, images=table.num_rows)
    Positions(config, start=0, rank=accelerator.process_index, ranks=accelerator.num_processes)  # can it be shared?
    if main:
        for record in records:
            if len(records) > 1:
                log.info(f"teacher {record['source']}, weight {record['weight']:g}")
            for line in record["lines"]:
                log.info(line)

    student, spec = make_student(config, init, targets)
    initial_state = {name: tensor.clone() for name, tensor in student.state_dict().items()} if config.init_share else {}
    student.to(device)
    if config.checkpoint_activations:  # before parts of the student are taken
        student.set_grad_checkpointing(True)  # type: ignore[operator]
    config = resolve_decoder(config, student)
    half = torch.bfloat16 if accelerator.mixed_precision == "bf16" and device.type == "cuda" else None
    model = make_objective(config, student, targets, dtype=half)
    if isinstance(model, AttentionDistillation) and (half or config.teacher_precision == "fp8"):
        pixels = normalise_crops(some_images(table, config, SPEED_IMAGES).to(device))
        precision, tolerance = config.teacher_precision, config.teacher_tolerance
        lines = speed_up(model.teachers, model.targets, pixels, precision=precision, tolerance=tolerance)
        if main:
            for line in lines:
                log.info(line)
    saved = model.saved(student)
    if main:
        log.info(f"objective {config.objective}; {describe_student(config, student)}")
        log.info(describe_crops(config))
        log.info(f"lr {config.lr:.3g}, warm-up {config.warmup}, drop path {config.drop_path:g}")
    finished = run.is_finished(config)
    run.open(config, main_process=main)
    if config.dry_run:
        if main:
            log.info(f"dry run: would train in {config.out} on {device}; nothing was written")
        return None
    if finished:
        steps, last = run.result()
        if main:
            log.info(f"{config.out} is finished, and its checkpoints are gone: the student stays as it is")
        layers = tuple(record["layer"] for record in records)
        return PretrainResult(run.model, layers, last.get("loss", math.nan), TrainResult(steps, 0.0, 0.0, last))

    if main:
        write_manifest(table, run.path / "manifest.parquet")
        write_json(run.path / "teacher.json", {"objective": config.objective, "teachers": records})
    trainable = Trainable(
        model=model,
        saved=saved,
        dataset=partial(make_dataset, config, table, device),
        groups=parameter_groups(saved, lr=float(config.lr), weight_decay=config.weight_decay),
        schedule=warmup_cosine(config.steps, int(config.warmup)),
        betas=(0.9, 0.95),
        compiled=model.parts,
        picture=lambda: draw(model, table, config),
        picture_every=config.picture_every,
    )
    done = train(trainable, config, run, accelerator)
    if main:
        if config.init_share:
            average_with_init(student, initial_state, config.init_share)
        save_student(run, config, student, spec, records, done)
        log.info(f"{config.objective} ended at a loss of {done.last['loss']:.4f}; the student is {run.model}")
    return PretrainResult(run.model, tuple(record["layer"] for record in records), done.last["loss"], done)


def describe_crops(config: PretrainConfig) -> str:
    """Say how much is seen of the images."""
    low, high = (f"{100 * share:g}" for share in config.scale)
    distorted = f", {100 * config.distort:g} % of them distorted for the student" if config.distort else ""
    crops = f"crops of {config.size} px, {low} to {high} % of an image"
    return f"{config.steps} steps of {config.batch_size} {crops}{distorted}"


def check_student_layers(config: PretrainConfig, init: Backbone | None) -> None:
    """Refuse ``student_layers`` that the student does not have, before anything is measured.

    Raises:
        UnipError: There is no such layer; or of attention, the last one is not among them.
    """
    depth = depth_of(init.model) if init else int(student_spec(config.student).arguments["depth"])
    wrong = [layer for layer in config.student_layers if not 1 <= layer <= depth]
    if wrong:
        raise UnipError(f"student_layers: the student has no layer {wrong[0]}", f"Its layers are 1 to {depth}.")
    if config.attentive and config.student_layers and depth not in config.student_layers:
        raise UnipError(
            f"student_layers: none of {', '.join(map(str, config.student_layers))} is the student's last layer",
            f"What lies behind the last one that learns would stay as it is: let layer {depth} learn one.",
        )


def known_layers(config: PretrainConfig, run: RunFolder) -> list[dict[str, Any]]:
    """Return what a run that is continued found out about its teachers when it started."""
    file = run.path / "teacher.json"
    if not ((run.continues(config) or run.is_finished(config)) and file.exists()):
        return []
    found: list[dict[str, Any]] = read_json(file).get("teachers", [])
    return found


def resolve_pretraining(config: PretrainConfig, records: list[dict[str, Any]], *, images: int) -> PretrainConfig:
    """Replace what was left at ``auto`` by numbers."""
    steps = config.count_steps(images)
    layers = tuple(record["layer"] for record in records)
    return config.model_copy(
        update={
            "teacher_layer": layers or config.teacher_layer,
            "steps": steps,
            "lr": 1.5e-4 * config.batch_size / 256 if config.lr == "auto" else config.lr,
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


def make_objective(
    config: PretrainConfig, student: nn.Module, targets: list[Target], *, dtype: torch.dtype | None = None
) -> Objective:
    """Put the student together with what it learns from; ``dtype`` is that of :class:`AttentionDistillation`."""
    if config.objective == "mae":
        return MaskedAutoencoding(
            student,
            size=config.size,
            seed=config.seed,
            mask_ratio=config.mask_ratio,
            depth=int(config.decoder_depth),
            width=int(config.decoder_width),
        )
    made: Distillation
    if config.objective == "features":
        made = FeatureDistillation(targets, student, size=config.size, layers=config.student_layers)
    else:
        values = config.values_weight if config.objective == "nmi_had+values" else 0.0
        made = AttentionDistillation(
            targets, student, size=config.size, layers=config.student_layers, values_weight=values, dtype=dtype
        )
    made.distort, made.seed = config.distort, config.seed
    return made


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


def some_images(table: pa.Table, config: PretrainConfig, count: int) -> torch.Tensor:
    """Read images of the data, infrared ones if there are any, as squares: (N, 1, S, S) uint8."""
    infrared = "infrared" in table["modality"].to_pylist()
    return read_row_squares(
        table, sample_indices(table, "infrared" if infrared else None, count, config.seed), config.size
    )


@torch.no_grad()
def draw(model: Objective, table: pa.Table, config: PretrainConfig) -> np.ndarray:
    """Draw the state of training on two images of the data, infrared ones if there are any."""
    images = some_images(table, config, 2)
    model.eval()
    picture = model.draw(images.to(next(model.parameters()).device))
    model.train()
    return picture


def save_student(
    run: RunFolder,
    config: PretrainConfig,
    student: nn.Module,
    spec: BackboneSpec,
    records: list[dict[str, Any]],
    done: TrainResult,
) -> None:
    """Write the student as a model folder that says how it was made."""
    teachers = [{key: record[key] for key in ("source", "sha256", "layer", "weight", "zoom")} for record in records]
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
        info |= {"distort": config.distort}
    if config.objective in NOT_TRAINED:
        info["not_trained"] = NOT_TRAINED[config.objective]
    mean, std = INFMIX_RGB
    save_backbone(student, spec, run.model, mean=mean, std=std, input_size=config.size, info=info)
