"""The settings of `unip pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, PlainSerializer, field_validator, model_validator

from unip.attention.patterns import HYBRID_NMI
from unip.config import NameOrPath, Setting
from unip.limits import MAX_BATCH, MAX_CROP, MAX_WIDTH
from unip.training.config import MACHINE, TrainingConfig

T = TypeVar("T")
Layer = Literal["auto"] | int
ObjectiveName = Literal["nmi_had", "nmi_had+values", "features", "mae"]


def _none_is_empty(value: Any) -> Any:
    return () if value is None else value


def _one_or_more(value: tuple[Any, ...]) -> Any:
    return value[0] if len(value) == 1 else list(value)


OneOrMore = Annotated[tuple[T, ...], BeforeValidator(_none_is_empty), PlainSerializer(_one_or_more)]


class PretrainConfig(TrainingConfig):
    """What a student learns from what, on which images; the defaults are the paper's."""

    data: tuple[NameOrPath, ...] = Field(
        min_length=1, description="Image folders or manifests; infrared=FOLDER and rgb=FOLDER say what is in them."
    )
    recipe: Literal["paper", "adapt"] = Field(
        "paper",
        description="How open settings are chosen: the paper's; adapt: a better start for your own frames, in minutes.",
    )
    probe_data: Annotated[Path | None, Setting(resume="unfinished")] = Field(
        None,
        description="adapt: labelled frames, as for finetune --data; if linear probes say that the new start is worse, "
        "the old one is kept.",
    )
    objective: ObjectiveName = Field(
        "nmi_had",
        description="What is learnt: the teacher's attention, also with its value relations, its tokens, or MAE.",
    )
    teacher: OneOrMore[NameOrPath] = Field(
        (),
        description="timm:NAME[.TAG], timm:NAME@FILE, hf:REPO, a checkpoint file or a model folder; one or more, "
        "the same one twice for two of its layers. Not used by mae.",
    )
    teacher_layer: OneOrMore[Layer] = Field(
        ("auto",),
        min_length=1,
        description="Layer to distil, 1-based; auto: NMI nearest to target_nmi on the data's infrared images. "
        "One for all teachers, or one each.",
    )
    teacher_weight: OneOrMore[Annotated[float, Field(gt=0)]] = Field(
        (1.0,), min_length=1, description="Weight in the mean of the losses; one for all teachers, or one each."
    )
    teacher_zoom: OneOrMore[Annotated[int, Field(ge=1, le=4)]] = Field(
        (1,), min_length=1, description="features: how many times enlarged a teacher sees the crops; one, or one each."
    )
    teacher_precision: Literal["auto", "fp8"] = Field(
        "auto", description="Arithmetic of the teachers: auto as precision says, fp8 faster on GPUs since Hopper."
    )
    teacher_tolerance: float = Field(
        0.1, gt=0, lt=1, description="How far a faster teacher's attention may move (total variation distance)."
    )
    student: str = Field("unip_tiny", description="unip_micro, unip_tiny, unip_small or unip_base.")
    init: NameOrPath = Field(
        "random", description="Model to start from, a source as for teacher; its architecture is then the student's."
    )
    init_share: Annotated[float, Setting(resume="unfinished")] = Field(
        0.0, ge=0, lt=1, description="Share of init's weights in the student that is saved: 0.5 averages both."
    )
    patch_size: int | None = Field(
        None, ge=4, le=64, description="Side of init's patches in pixels, if another one is wanted: they are resized."
    )
    student_layers: tuple[int, ...] = Field(
        (),
        description="Attention: the student's layer that learns each teacher's, one each; features: those that are "
        "mapped, side by side; none: the last.",
    )
    distort: float = Field(
        0.0, ge=0, le=1, description="Share of the crops that the student sees with other contrast, noise and blur."
    )
    distortions: Literal["photometric", "infrared"] = Field(
        "photometric",
        description="What distort does: contrast, brightness, noise and blur; infrared: also stripes, dead pixels and "
        "the other polarity.",
    )
    exclude_layers: tuple[int, ...] = Field((), description="Layers that auto must not choose.")
    target_nmi: float = Field(HYBRID_NMI, gt=0, lt=1, description="NMI of a hybrid layer.")
    probe_images: int = Field(256, ge=1, description="Infrared images that auto measures.")
    values_weight: float = Field(1.0, gt=0, description="Weight of the value relations in nmi_had+values.")
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="Share of the patches that mae hides.")
    decoder_depth: Literal["auto"] | Annotated[int, Field(ge=1, le=128)] = Field(
        "auto", description="Blocks of mae's decoder; auto: 8, for students narrower than 384 channels 4."
    )
    decoder_width: Literal["auto"] | Annotated[int, Field(ge=32, le=MAX_WIDTH, multiple_of=32)] = Field(
        "auto", description="Channels of mae's decoder; auto: 512, for students narrower than 384 channels 256."
    )
    max_images: int | None = Field(None, ge=1, description="Maximum number of images, drawn with the seed; none: all.")
    size: int = Field(224, ge=16, le=MAX_CROP, description="Side of the training crops, in pixels.")
    scale: tuple[float, float] = Field((0.2, 1.0), description="Share of an image's area that a crop covers.")
    cache: Annotated[Literal["auto", "ram", "none", "gpu"], MACHINE] = Field(
        "auto", description="Keep decoded images in memory; gpu: on the GPU, which then cuts the crops too."
    )
    batch_size: int = Field(4096, ge=1, le=MAX_BATCH, description="Samples per step, over all devices together.")
    lr: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto", description="Highest learning rate; auto: 2.4e-3 x sqrt(batch_size / 4096), 5e-4 at least."
    )
    warmup: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto", description="Warm-up steps; auto: a twentieth of all."
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW weight decay of matrices.")
    drop_path: float = Field(0.1, ge=0, lt=1, description="Stochastic depth rate of every student block.")
    picture_every: Annotated[int, MACHINE] = Field(
        500, ge=0, description="Steps between pictures of what is learnt; 0: none."
    )

    @field_validator("scale")
    @classmethod
    def _is_a_range_of_shares(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError("scale must be two increasing numbers above 0 and at most 1")
        return scale

    @model_validator(mode="after")
    def _has_something_to_judge(self) -> PretrainConfig:
        if self.probe_data is not None and self.recipe != "adapt":
            raise ValueError("probe_data judges the start that recipe adapt makes: add recipe adapt")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> PretrainConfig:
        if self.init_share and self.init == "random" and self.recipe != "adapt":
            raise ValueError("init_share needs init: random weights have nothing to keep")
        if self.patch_size is not None and self.init == "random" and self.recipe != "adapt":
            raise ValueError("patch_size resizes the patches of init: a student from random weights has 16-pixel ones")
        if self.objective != "mae" and not self.teacher and self.recipe != "adapt":
            raise ValueError(f"objective {self.objective} needs a teacher")
        if self.teacher_precision == "fp8" and not self.attentive:
            raise ValueError("teacher_precision fp8 is for attention: objective nmi_had or nmi_had+values")
        if self.objective != "features" and set(self.teacher_zoom) != {1}:
            raise ValueError("teacher_zoom is for objective features")
        if self.objective == "mae" and (self.distort or self.student_layers):
            name = "distort" if self.distort else "student_layers"
            raise ValueError(f"{name} is for objectives with a teacher")
        if self.attentive and self.teacher and len(self.student_layers) not in (0, len(self.teacher)):
            raise ValueError(
                f"student_layers has {len(self.student_layers)} values for {len(self.teacher)} teachers: give one each"
            )
        for name in ("teacher_layer", "teacher_weight", "teacher_zoom"):
            count = len(getattr(self, name))
            if self.teacher and count not in (1, len(self.teacher)):
                raise ValueError(f"{name} has {count} values for {len(self.teacher)} teachers: give one, or one each")
        return self

    @property
    def attentive(self) -> bool:
        """Say whether attention is distilled."""
        return self.objective in ("nmi_had", "nmi_had+values")

    def targets(self) -> list[tuple[str, Layer, float, int]]:
        """Return source, layer, weight and zoom of each teacher; none for mae."""
        if self.objective == "mae":
            return []
        each = [
            values if len(values) == len(self.teacher) else values * len(self.teacher)
            for values in (self.teacher_layer, self.teacher_weight, self.teacher_zoom)
        ]
        return list(zip(self.teacher, *each, strict=True))
