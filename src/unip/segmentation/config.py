"""The settings of `unip finetune` and `unip evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from unip.config import Config, NameOrPath, Setting
from unip.data.images.config import ConversionOptions
from unip.data.labelled.settings import (
    DATA_HELP,
    ImagesFolder,
    MaskOrientationGiven,
    MasksFolder,
    MaskSuffix,
    Remap,
    check_label_budget,
)
from unip.errors import UnipError
from unip.limits import MAX_BATCH, MAX_CROP, MAX_PIXELS, MAX_SIDE, MAX_WIDTH
from unip.runtime.memory import Cache
from unip.runtime.settings import Device, MaxPixels, Precision
from unip.segmentation.settings import (
    HELD_OUT,
    TOLERANCE,
    Augment,
    AugmentScales,
    Decoder,
    Group,
    LossName,
    PaletteGiven,
    PolarityGiven,
    PyramidName,
    Scale,
    Weighting,
    Window,
    WindowBatch,
    Workers,
)
from unip.training.config import MACHINE, TrainingConfig

Recipe = Literal["auto", "paper", "fast", "quick"]
DEFAULT_MODEL = "unip-ir-tiny"
CELL = Setting(decided_by="grid")
OPEN = Setting(empty_is_auto=True)

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


class FinetuneConfig(ConversionOptions, TrainingConfig):
    """What to train on which labels; what is left open is chosen by the recipe and from the data."""

    bfloat16_on_processors: ClassVar[bool] = True
    model: Annotated[NameOrPath, CELL] = Field(
        DEFAULT_MODEL,
        description="A distilled run, timm:NAME, hf:REPO, a checkpoint; a student's name is from scratch. "
        "A segmentation model is trained further.",
    )
    from_backbone: Annotated[bool, CELL] = Field(
        False, description="Take only the backbone of a segmentation model, not its decoder and classes."
    )
    drop_classes: Annotated[tuple[str, ...], CELL] = Field(
        (), description="Classes of the segmentation model to give up; else the data must have them all."
    )
    data: Annotated[Path, CELL] = Field(description=DATA_HELP)
    split: Annotated[str | None, CELL] = Field(
        "train", description='Split to train on; "" for a folder without splits, where it need not be given.'
    )
    val: Annotated[str | None, Setting(resume="always", resume_unless="eval_every")] = Field(
        None, description="Split to evaluate on at the end, and with eval_every meanwhile; none: see val_share."
    )
    val_share: Annotated[Literal["auto"] | Annotated[float, Field(ge=0, lt=1)], CELL] = Field(
        "auto",
        description="Share of the labelled images to hold out for evaluation, if there is no val; auto: 0.1 of ten or "
        "more, 0 if the data has other splits, with label_budget, and for the recipe paper.",
    )
    group: Annotated[Group, CELL] = None
    eval_every: int | None = Field(
        None,
        ge=1,
        description="Steps between evaluations on val; the best weights are the result. None: the last.",
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after this many evaluations in a row without a better one; none: never."
    )
    remap: Annotated[Remap, CELL] = ()
    empty_classes: Annotated[tuple[str, ...], Setting(resume="always", machine=True)] = Field(  # it changes no result
        (), description="Classes that may be without a labelled pixel; others stop a training on all labels."
    )
    images: Annotated[ImagesFolder, CELL] = None
    masks: Annotated[MasksFolder, CELL] = None
    mask_suffix: Annotated[MaskSuffix, CELL] = None
    mask_orientation: Annotated[MaskOrientationGiven, CELL] = None
    label_budget: Annotated[float | None, CELL] = Field(
        None, gt=0, description="Labelled images to use: a share up to 1, or a number above 1."
    )
    label_seed: Annotated[int, CELL] = Field(0, ge=0, description="Seed of the choice of few labels.")
    pseudo: Annotated[Path | None, CELL] = Field(
        None, description="Output folder of unip predict, best with --risk: its masks are trained on, too."
    )
    pseudo_share: float = Field(0.5, gt=0, lt=1, description="Share of the crops that pseudo-labelled frames make up.")
    mode: Annotated[Literal["auto", "full", "frozen", "linear"], CELL] = Field(
        "auto",
        description="Train all; a decoder on the frozen backbone; or a linear probe on it; auto: full, quick frozen.",
    )
    recipe: Recipe = Field(
        "auto",
        description="How open settings are chosen: as in the paper; fast, from the data; quick, for minutes on a CPU; "
        "auto: fast, and quick without a GPU.",
    )
    minutes: Annotated[Literal["auto"] | Annotated[float, Field(ge=0)], MACHINE] = Field(
        "auto",
        description="Minutes that may pass from files to model, where features are cached; 0: no limit; auto: 5 with "
        "quick, else 0.",
    )
    steps: Annotated[int, OPEN] = Field(
        0, ge=0, description="Optimiser steps; 0: as many as epochs make, or as the recipe says."
    )
    decoder: Literal["auto"] | Decoder = Field(
        "auto", description="auto: light, the paper's upernet, conv on a frozen backbone, linear in a probe."
    )
    pyramid: PyramidName = Field("llfpn", description="Levels from the last layer, or (fpn) from four layers.")
    layers: Annotated[tuple[int, ...], OPEN] = Field(
        (), description="Layers for the decoder, 1-based; none: the paper's."
    )
    channels: Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_WIDTH)] = Field(
        "auto", description="Decoder channels; auto: backbone's width, light and conv 128."
    )
    auxiliary_weight: Literal["auto"] | Annotated[float, Field(ge=0)] = Field(
        "auto", description="auto: 0.4 with upernet, else 0 (none)."
    )
    probe_norm: bool = Field(False, description="Linear decoder: standardise the features first (not in the paper).")
    last_heads: Literal["keep", "uniform"] = Field(
        "keep", description="Heads of the last block: as distilled, or as many as in the other blocks."
    )
    loss: Literal["auto"] | LossName = Field(
        "auto", description="Cross-entropy, or with soft dice added; auto: ce, fast adds dice for rare classes."
    )
    class_weights: Weighting = Field(
        "none", description="Cross-entropy by class: balanced is 1 / share of pixels, root its square root."
    )
    hard_pixels: float | None = Field(
        None, gt=0, lt=1, description="Cross-entropy of this share of the pixels only, the hardest; none: of all."
    )
    batch_size: int = Field(8, ge=1, le=MAX_BATCH, description="Crops per step, over all devices together.")
    lr: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto", description="Highest learning rate; auto: 4e-4, LoRA 1e-3, frozen 2e-3, probe 4e-3, the paper's 1e-4."
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
        None,
        ge=1,
        le=MAX_WIDTH,
        description="Train adapters of this rank on the frozen backbone; none: the backbone itself.",
    )
    drop_path: float = Field(0.1, ge=0, lt=1, description="Stochastic depth rate of every block; 0 where frozen.")
    crop: Literal["auto"] | Annotated[int, Field(ge=16, le=MAX_CROP)] = Field(
        "auto", description="Side of crops and, later, windows, in pixels; auto: 512, 256 on the CPU."
    )
    base: Annotated[tuple[Side, Side] | None, OPEN] = Field(
        None, description="Long and short side that ratio multiplies, in pixels; none: larger for small objects."
    )
    ratio: Annotated[tuple[float, float] | None, OPEN] = Field(
        None, description="Range of the random resize; none: 0.75 to 1.5, the paper's 0.5 to 2, 1 in a probe."
    )
    cat_max_ratio: float = Field(0.75, gt=0, le=1, description="A crop that one class fills more than this is redrawn.")
    flip: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = Field(
        "auto", description="Probability of a horizontal flip; auto: 0.5, or 0 where minutes leave no time."
    )
    photometric: bool | Literal["auto"] = Field(
        "auto",
        description="Distort brightness and contrast (and colours); auto: paper always, fast in natural colours.",
    )
    corrupt: float | None = Field(
        None, ge=0, le=1, description="Probability of one random corruption of severity 1 to 3."
    )
    inverted: float | None = Field(
        None, ge=0, le=1, description="Share of the crops shown inverted, so that black-hot frames are segmented, too."
    )
    rare_crops: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = Field(
        "auto",
        description="Share of the crops drawn to show a class, each foreground class as often; auto: 0, fast 0.33 for "
        "rare classes.",
    )
    cache: Annotated[Cache | Literal["gpu"], MACHINE] = Field(
        "auto", description="Keep decoded pairs in memory; gpu: grey ones on the GPU, which then cuts the crops too."
    )
    cache_features: bool | Literal["auto"] = Field(
        "auto", description="Frozen backbone: compute features once; auto: where they stay the same and fit the memory."
    )

    @field_validator("label_budget")
    @classmethod
    def _is_a_share_or_whole(cls, label_budget: float | None) -> float | None:
        if label_budget is not None:
            check_label_budget(label_budget)
        return label_budget

    @field_validator("ratio")
    @classmethod
    def _is_a_range(cls, ratio: tuple[float, float] | None) -> tuple[float, float] | None:
        if ratio is not None and not 0 < ratio[0] <= ratio[1]:
            raise ValueError("ratio must be two increasing numbers above 0")
        return ratio

    @model_validator(mode="after")
    def _fit_together(self) -> FinetuneConfig:
        if self.eval_every is not None and self.val is None and self.val_share == 0:
            raise UnipError(
                "eval_every needs images to evaluate on",
                "Add --val SPLIT, of other images than --split, or --val-share.",
            )
        if self.val not in (None, HELD_OUT) and self.val_share not in ("auto", 0):
            raise UnipError(
                f"val is {self.val}, and val_share {self.val_share} holds images out, too",
                "Evaluate on one of them: leave val out, or give --val-share 0.",
            )
        if self.eval_every is not None and self.val == self.split:
            raise UnipError(f"val is {self.val}, which is trained on", "Choose weights on another split.")
        if self.patience is not None and self.eval_every is None:
            raise UnipError("patience counts evaluations, but there are none", "Add --eval-every STEPS.")
        if self.recipe == "quick" and self.mode not in ("auto", "frozen"):
            raise UnipError(f"recipe quick is for mode frozen, not {self.mode}", "Leave one of the two out.")
        if (self.frozen or self.recipe == "quick") and (self.lora is not None or self.freeze_layers):
            option = "lora" if self.lora is not None else "freeze_layers"
            raise UnipError(
                f"{self.frozen_by} freezes the whole backbone: {option} cannot be used with it", "Leave one out."
            )
        return self

    @property
    def frozen(self) -> bool:
        """Whether the whole backbone stays as it is."""
        return self.mode in ("frozen", "linear")

    @property
    def frozen_by(self) -> str:
        """The setting that freezes the backbone."""
        return "recipe quick" if self.recipe == "quick" else f"mode {self.mode}"


class ResolvedConfig(FinetuneConfig):
    """A fine-tuning in which nothing is left open (see :mod:`unip.segmentation.defaults`)."""

    recipe: Literal["paper", "fast", "quick"]
    mode: Literal["full", "frozen", "linear"]
    minutes: float
    flip: float
    decoder: Decoder
    channels: int
    auxiliary_weight: float
    loss: LossName
    lr: float
    layer_decay: float
    warmup: int
    crop: int
    base: tuple[int, int]
    ratio: tuple[float, float]
    photometric: bool
    rare_crops: float
    cache_features: bool


class EvaluateConfig(Config):
    """What to evaluate on what."""

    model: Path = Field(description="Folder of a fine-tuning run, its model/, or a file of unip export.")
    data: Path = Field(description=DATA_HELP)
    against: Path | None = Field(
        None, description="Compare with this older model, on the same images; as words: OLD NEW DATA."
    )
    split: str | None = Field(
        "test",
        description='Which split; "" for a folder without splits; held-out: what the fine-tuning held out of the data.',
    )
    calibrate: bool = Field(
        False, description="Keep what confidence means on these images in the model's folder (calibration.json)."
    )
    reference: Path | None = Field(
        None,
        description="Of an exported file: the model folder to compare it with; none: what it was made from, if it is "
        "still there.",
    )
    tolerance: float = Field(
        TOLERANCE,
        ge=0,
        description="Points of mIoU that an exported file may lose against that model; else exit code 2.",
    )
    group: Group = None
    remap: Remap = ()
    images: ImagesFolder = None
    masks: MasksFolder = None
    mask_suffix: MaskSuffix = None
    mask_orientation: MaskOrientationGiven = None
    palette: PaletteGiven = None
    polarity: PolarityGiven = None
    out: Path | None = Field(None, description="Where results go; default: MODEL/evaluation/SPLIT, against-OLD-SPLIT.")
    worst: int = Field(
        12, ge=0, description="How many frames the page shows: the worst, or where two models differ most."
    )
    window: Window = "auto"
    scale: Scale = "auto"
    augment: Augment = "none"
    augment_scales: AugmentScales = (1.0,)
    batch_size: WindowBatch = "auto"
    device: Device = "auto"
    precision: Precision = "auto"
    workers: Workers = "auto"
    corruption: tuple[str, ...] = Field(
        (),
        description="Also evaluate on corrupted images: NAME, NAME:SEVERITY (1 to 5; 3 if left out), all, or "
        "all:SEVERITY.",
    )
    seed: int = Field(0, ge=0, description="Seed of the corruptions.")
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: bool = Field(False, description="Also replace results in out that were changed since.")
    dry_run: bool = Field(False, description="Check model and data, print what would happen, write nothing.")

    @field_validator("corruption")
    @classmethod
    def _are_known(cls, corruption: tuple[str, ...]) -> tuple[str, ...]:
        if corruption:
            from unip.data.corruptions import parse_corruptions  # needs numpy

            parse_corruptions(corruption)
        return corruption

    @model_validator(mode="after")
    def _fit_a_comparison(self) -> EvaluateConfig:
        if self.against is not None and self.corruption:
            raise UnipError(
                "two models are compared on the images as they are, not on corrupted ones",
                "Leave out --corruption, or evaluate each model with it.",
            )
        for name in ("calibrate", "reference", "tolerance"):
            if self.against is not None and name in self.model_fields_set:
                raise UnipError(f"{name} is of one model, and two are compared", f"Leave out --against or --{name}.")
        return self
