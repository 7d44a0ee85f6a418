"""The first step of `unip pretrain`: read, resolve what was left open, refuse; nothing is written yet."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import torch
from accelerate import Accelerator
from torch import nn

from unip.data.manifests.manifest import first_lines, read_manifest
from unip.data.manifests.scan import open_images
from unip.data.manifests.sources import printable
from unip.data.sampling.pretraining_crops import Squares, sample_indices
from unip.errors import UnipError
from unip.files import read_json
from unip.paths import exists
from unip.pretraining.adapting import choose
from unip.pretraining.attention_distillation import AttentionDistillation
from unip.pretraining.config import PretrainConfig
from unip.pretraining.feature_distillation import FeatureDistillation
from unip.pretraining.inputs import normalise_crops
from unip.pretraining.label_probe import ProbeHalves, open_halves
from unip.pretraining.layers import TeacherLayer, make_targets, resolve_layers
from unip.pretraining.mae import MaskedAutoencoding
from unip.pretraining.objective import Distillation, Objective
from unip.pretraining.resolving import resolve_decoder, resolve_pretraining
from unip.pretraining.speed import speed_up
from unip.pretraining.student import make_student
from unip.pretraining.teachers import Target
from unip.pretraining.timing import fit, measure
from unip.runtime.seeds import seed_for
from unip.training.feed import Positions
from unip.training.run_folder import RunFolder
from unip.training.schedule import check_warmup
from unip.vit.ancestry import ancestors_of
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import Backbone, load_backbone
from unip.vit.shape import depth_of, patch_size
from unip.vit.student import student_spec
from unip.zoo.lineage import Ancestor, Lineage, data_ancestor

log = logging.getLogger(__name__)

HELD_OUT = 64  # frames that the guard of the recipe adapt looks at, at most
FEWEST_TO_HOLD_OUT = 20
SPEED_IMAGES = 64  # on which a faster teacher is compared with itself


@dataclass(frozen=True)
class PretrainPlan:
    """What is trained on what, with nothing left open.

    Attributes:
        config: Every setting resolved.
        accelerator: Device, ranks and precision.
        table: The manifest of the images.
        trained: The part of it that is trained on.
        images: What was read of them, whole.
        loaded: What was read of each model, a line each.
        layers: The layers that are distilled, and how they were found; none for mae.
        student: What is trained.
        spec: Its architecture.
        start: Its weights before training, if a share of them is kept; else nothing.
        objective: Student and teachers together.
        speed: What was done to make the teachers faster, in lines.
        finished: Whether the run has its model, and no checkpoints to go on from.
        lineage: What the student is made from.
        chosen: What the recipe adapt chose, in lines.
        held: For the recipe adapt, frames that the guard looks at; else nothing.
        halves: Labelled frames that judge the student, if some are given.
    """

    config: PretrainConfig
    accelerator: Accelerator
    table: pa.Table
    trained: pa.Table
    images: Squares
    loaded: list[str]
    layers: list[TeacherLayer]
    student: nn.Module
    spec: BackboneSpec
    start: dict[str, torch.Tensor]
    objective: Objective
    speed: list[str]
    finished: bool
    lineage: Lineage
    chosen: list[str] = field(default_factory=list)
    held: torch.Tensor | None = None
    halves: ProbeHalves | None = None

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        """The layer of each teacher."""
        return tuple(found.layer for found in self.layers)

    @property
    def holds_out(self) -> bool:
        """Whether some images are not trained on."""
        return bool(self.trained.num_rows < self.table.num_rows)


def prepare(config: PretrainConfig, run: RunFolder, accelerator: Accelerator) -> PretrainPlan:
    """Read data and models, resolve what was left open, and refuse what cannot be trained.

    Raises:
        UnipError: Data, teachers, layers or settings do not fit together.
    """
    given, table = config.model_fields_set, None
    chosen: list[str] = []
    halves = None if config.probe_data is None else open_halves(config.probe_data, config.seed)
    if config.recipe == "adapt":
        table = open_table(config, run)
        config, chosen = choose(config, table, on_gpu=accelerator.device.type == "cuda")
    torch.manual_seed(config.seed)  # what of the weights is random must be the same where the run goes on
    teachers = {source: load_backbone(source) for source in dict.fromkeys(source for source, *_ in config.targets())}
    init = None
    if config.init != "random":
        init = load_backbone(config.init, drop_path=config.drop_path, patch=config.patch_size)
    check_student_layers(config, init)
    models = [*teachers.items(), *([(config.init, init)] if init else [])]
    loaded = [str(backbone.report or f"{source}: random weights") for source, backbone in models]
    table = open_table(config, run) if table is None else table
    images = Squares(table, config.size)
    for backbone in teachers.values():
        backbone.model.to(accelerator.device)
    patch = patch_size(init.model) if init else int(student_spec(config.student).arguments["patch_size"])
    layers = resolve_layers(config, teachers, images, patch=patch, known=known_layers(config, run))
    targets = make_targets(layers, teachers)
    opened, config = config, resolve_pretraining(config, layers, images=table.num_rows)
    Positions(config, start=0, rank=accelerator.process_index, ranks=accelerator.num_processes)  # can it be shared?

    student, spec = make_student(config, init, targets)
    start = {name: tensor.clone() for name, tensor in student.state_dict().items()} if config.init_share else {}
    student.to(accelerator.device)
    if config.checkpoint_activations:  # before parts of the student are taken
        student.set_grad_checkpointing(True)  # type: ignore[operator]
    config = resolve_decoder(config, student)
    on_gpu = accelerator.device.type == "cuda"
    half = torch.bfloat16 if accelerator.mixed_precision == "bf16" and on_gpu else None
    objective = make_objective(config, student, targets, dtype=half)
    speed = speed_up_teachers(objective, images, config, accelerator.device)
    trained, held = table, None
    if config.recipe == "adapt":
        trained, held = hold_out(table, images, config)
        ranks = accelerator.num_processes  # several would measure different times, and do different numbers of steps
        open_ones = {"steps", "accumulate"} - given if ranks == 1 and config.epochs is None else set[str]()
        changes, time = fit(config, measure(objective, config, accelerator), may_change=open_ones, ranks=ranks)
        config = resolve_pretraining(opened.model_copy(update=changes), layers, images=table.num_rows)
        Positions(config, start=0, rank=accelerator.process_index, ranks=accelerator.num_processes)
        chosen = [*chosen, time]
    return PretrainPlan(
        config=config,
        accelerator=accelerator,
        table=table,
        trained=trained,
        images=images,
        loaded=loaded,
        layers=layers,
        student=student,
        spec=spec,
        start=start,
        objective=objective,
        speed=speed,
        finished=run.is_finished(config),
        lineage=lineage_of(teachers.values(), init, table),
        chosen=chosen,
        held=held,
        halves=halves,
    )


def hold_out(table: pa.Table, images: Squares, config: PretrainConfig) -> tuple[pa.Table, torch.Tensor]:
    """Take a tenth of the infrared frames, 64 at most, out of what is trained on; read them as squares.

    Of fewer than 20 images none is taken out: the guard then looks at frames that were trained on.
    """
    infrared = "infrared" in table["modality"].to_pylist()
    count = min(HELD_OUT, max(2, table.num_rows // 10))
    held = sample_indices(table, "infrared" if infrared else None, count, seed_for(config.seed, 1))
    out = set(held)
    few = table.num_rows < FEWEST_TO_HOLD_OUT
    left = table if few else table.take([row for row in range(table.num_rows) if row not in out])
    return left, images.read(held)


def lineage_of(teachers: Iterable[Backbone], init: Backbone | None, table: pa.Table) -> Lineage:
    """Return what a student is made from: its initial weights, its teachers and each source of its images."""
    ancestors = [] if init is None else ancestors_of(init, "init")
    ancestors += [one for teacher in teachers for one in ancestors_of(teacher, "teacher")]
    return Lineage.of([*ancestors, *data_ancestors(table)])


def data_ancestors(table: pa.Table) -> list[Ancestor]:
    """Describe each source of a manifest's images; names of files are told from the images' own."""
    files: dict[str, list[tuple[str, int]]] = {}
    folders: dict[str, Path] = {}
    columns = (table[name].to_pylist() for name in ("source", "path", "bytes"))
    for source, path, size in zip(*columns, strict=True):
        place = Path(os.fsdecode(path or b""))
        files.setdefault(source, []).append((place.name, size))
        folders.setdefault(source, place.parent)
    return [data_ancestor(source, folders[source], listed) for source, listed in files.items()]


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


def open_table(config: PretrainConfig, run: RunFolder) -> pa.Table:
    """List the images, at most ``max_images``, and refuse a warm-up that is too long for them."""
    manifest = run.path / "manifest.parquet"
    resumed = run.continues(config) or run.is_finished(config)
    known = manifest if resumed and run.outputs.state(manifest.name) == "ours" else None
    table = open_images(config.data, known=known)
    if config.max_images is not None:
        table = table.take(sample_indices(table, None, config.max_images, config.seed))
    if known and (change := listing_change(known, table)):
        log.warning(change)
    if config.warmup != "auto":
        check_warmup(config.warmup, config.count_steps(table.num_rows))
    return table


def listing_change(manifest: Path, table: pa.Table) -> str:
    """Say in how far images were added or removed since a run wrote its manifest; empty if none were."""
    try:
        before = read_manifest(manifest, may_miss=True)
    except UnipError:  # it is of another version
        return ""
    then, now = (Counter(each["path"].to_pylist()) for each in (before, table))
    added, removed = now - then, then - now
    if not (added or removed):
        return ""
    names = first_lines([printable(path or b"a packed image") for path in (*added, *removed)])
    counts = f"{added.total()} images are new and {removed.total()} are gone"
    return f"{counts} since {manifest} was written, so that other crops are drawn from now on:\n{names}"


@dataclass(frozen=True)
class KnownLayers:
    """What is read of a teacher.json."""

    teachers: list[TeacherLayer] = field(default_factory=list)


def known_layers(config: PretrainConfig, run: RunFolder) -> list[TeacherLayer]:
    """Return what a run that is continued found out about its teachers when it started."""
    file = run.path / "teacher.json"
    if not ((run.continues(config) or run.is_finished(config)) and exists(file)):
        return []
    return read_json(file, KnownLayers, fix="Delete it: the layers are then measured again.").teachers


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
    made.distort, made.seed, made.camera = config.distort, config.seed, config.distortions == "infrared"
    return made


def speed_up_teachers(objective: Objective, images: Squares, config: PretrainConfig, device: torch.device) -> list[str]:
    """Make the teachers faster where they are run in half precision or float8; return what was done, in lines."""
    if not isinstance(objective, AttentionDistillation):
        return []
    precision, tolerance = config.teacher_precision, config.teacher_tolerance
    if objective.teachers.dtype is None and precision != "fp8":
        return []
    pixels = normalise_crops(some_images(images, config, SPEED_IMAGES).to(device))
    return speed_up(objective.teachers, objective.targets, pixels, precision=precision, tolerance=tolerance)


def some_images(images: Squares, config: PretrainConfig, count: int) -> torch.Tensor:
    """Read images of the data, infrared ones if there are any, as squares: (N, 1, S, S) uint8."""
    infrared = "infrared" in images.table["modality"].to_pylist()
    return images.read(sample_indices(images.table, "infrared" if infrared else None, count, config.seed))
