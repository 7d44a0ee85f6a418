"""The settings of `unip predict`; those of `unip evaluate` are beside the scores, in segmentation/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from unip.config import Config
from unip.data.images.config import Conversion
from unip.errors import UnipError
from unip.limits import MAX_PIXELS
from unip.runtime.settings import Device, MaxPixels, Precision
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.settings import (
    Augment,
    AugmentScales,
    PaletteGiven,
    PolarityGiven,
    Scale,
    Window,
    WindowBatch,
    Workers,
)

Check = Literal["one", "all", "none"]
ACCEPTANCE = "acceptance.json"  # how an exported file that is evaluated compares with its model

EngineName = Literal["auto", "torch", "onnx", "openvino"]

EngineChoice = Annotated[
    EngineName,
    Field(
        description="What runs a model folder: torch, or an accepted file of unip export in its export/; auto: on the "
        "CPU the fastest file whose engine is installed, else torch."
    ),
]

NodataGiven = Annotated[
    float | None,
    Field(
        allow_inf_nan=False,
        description="Value of samples without a measurement, such as a border of 0; none: as in training.",
    ),
]

Compile = Annotated[bool, Field(description="Compile the model with torch.compile when it runs first.")]


class LoadConfig(Config):
    """How a model is loaded, see :func:`unip.deployment.loading.load`."""

    device: Device = "auto"
    precision: Precision = "auto"
    engine: EngineChoice = "auto"
    compile: Compile = False
    check: Check = Field("one", description="Golden frames of an exported file to segment, to say if masks differ.")
    window: Window = "auto"
    scale: Scale = "auto"
    augment: Augment = "none"
    augment_scales: AugmentScales = (1.0,)
    batch_size: WindowBatch = "auto"
    palette: PaletteGiven = None
    polarity: PolarityGiven = None
    nodata: NodataGiven = None

    def convert(self, conversion: Conversion) -> Conversion:
        """Return a model's conversion for frames that are stored in another way than those of training."""
        return conversion.given(palette=self.palette, polarity=self.polarity, nodata=self.nodata)


class PredictConfig(Config):
    """What to segment with what."""

    model: Path = Field(description="Folder of a fine-tuning run, its model/, or a file of unip export.")
    images: tuple[Path, ...] = Field(min_length=1, description="Image files and folders of images.")
    out: Path = Field(Path("predictions"), description="Folder for masks/, overlays/ and probabilities/.")
    palette: PaletteGiven = None
    nodata: NodataGiven = None
    polarity: PolarityGiven = None
    risk: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Wanted share of wrong pixels of each class: less sure pixels become 255; none: all get a class.",
    )
    probabilities: bool = Field(False, description="Also write float16 class probabilities (C, H, W) as .npz.")
    overlays: bool = Field(True, description="Also write images tinted by their masks, for people to look at.")
    overlay_format: Literal["jpeg", "png"] = Field(
        "jpeg", description="Of overlays; png keeps every level, and takes ten times as long."
    )
    alpha: float = Field(0.5, ge=0, le=1, description="Strength of the overlay's colours.")
    engine: EngineChoice = "auto"
    compile: Compile = False
    window: Window = "auto"
    scale: Scale = "auto"
    augment: Augment = "none"
    augment_scales: AugmentScales = (1.0,)
    batch_size: WindowBatch = "auto"
    device: Device = "auto"
    precision: Precision = "auto"
    workers: Workers = "auto"
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: bool = Field(False, description="Also replace results in out that were changed since.")
    dry_run: bool = Field(False, description="Check model and images, print what would happen, write nothing.")

    def loading(self) -> LoadConfig:
        """Return how the model is loaded."""
        return LoadConfig(
            **{name: getattr(self, name) for name in LoadConfig.model_fields if name in PredictConfig.model_fields}
        )


def to_evaluate(config: EvaluateConfig) -> LoadConfig:
    """Return how an exported file is loaded to evaluate it.

    Its graph takes whole frames; ``window`` slide is for the model folder beside which it is evaluated.

    Raises:
        UnipError: Test-time augmentation is asked for, which files do not do.
    """
    if config.augment != "none" or config.augment_scales != (1.0,):
        raise UnipError(
            f"{config.model} is an exported file, and test-time augmentation is for model folders",
            "Leave --augment and --augment-scales out, or give the model folder.",
        )
    return LoadConfig(
        device=config.device,
        precision=config.precision,
        window="whole" if config.window == "whole" else "auto",
        scale=config.scale,
        batch_size=config.batch_size,
        palette=config.palette,
        polarity=config.polarity,
    )
