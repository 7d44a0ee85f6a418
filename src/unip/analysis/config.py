"""The settings of `unip analyze`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from unip.analysis.groups import Group
from unip.attention.patterns import GLOBAL_BELOW, HYBRID_NMI, LOCAL_ABOVE
from unip.config import Config, NameOrPath
from unip.data.labelled.settings import Remap
from unip.limits import MAX_BATCH, MAX_CROP, MAX_PIXELS
from unip.runtime.settings import Device, MaxPixels


class AnalyzeConfig(Config):
    """Which models to analyse, on which images, and how the images are given to them."""

    models: tuple[NameOrPath, ...] = Field(
        min_length=1, description="timm:NAME[.TAG], timm:NAME@FILE, hf:REPO, checkpoint files, model or run folders."
    )
    images: tuple[NameOrPath, ...] = Field(min_length=1, description="Image folders or Parquet manifests.")
    out: Path = Field(Path("runs/analysis"), description="Where report.html, the numbers and the pictures go.")
    pair: tuple[NameOrPath, ...] = Field(
        (), description="Folders of visible images of the same scenes, with the same names; they are measured too."
    )
    pair_colour: bool = Field(True, description="Show the visible images in colour, not in grey.")
    groups: tuple[Group, ...] = Field((), description="How each model was pre-trained; none: guessed from the names.")
    max_images: int = Field(256, ge=1, description="Maximum number of images, drawn with the seed.")
    seed: int = Field(0, ge=0, description="Seed of the draw.")
    size: int | None = Field(
        None, ge=16, le=MAX_CROP, description="Images are resized to squares of this side; none: the model's own."
    )
    normalization: Literal["model", "imagenet", "infmix"] = Field(
        "model", description="Mean and standard deviation: the model's own, ImageNet's or InfMix's."
    )
    target_nmi: float = Field(HYBRID_NMI, gt=0, lt=1, description="NMI of a hybrid layer.")
    local_above: float = Field(LOCAL_ABOVE, description="Layers with a higher NMI are local.")
    global_below: float = Field(GLOBAL_BELOW, description="Layers after the peak with a lower NMI are global.")
    exclude_layers: tuple[int, ...] = Field((), description="Layers not to choose.")
    report: bool = Field(True, description="Draw figures and maps and write report.html, not only the numbers.")
    pictures: int = Field(2, ge=0, description="Images whose attention maps are drawn.")
    explorer: int = Field(4, ge=0, description="Images in the report's explorer.")
    probe: Path | None = Field(
        None, description="Segmentation data, a folder or KIND:PATH: a linear probe is trained on every layer."
    )
    probe_remap: Remap = ()
    probe_images: tuple[int, int] = Field(
        (200, 100), description="Maximum numbers of labelled images to train and to test on."
    )
    probe_side: int = Field(448, ge=16, le=MAX_CROP, description="Short side of the probe's images, in pixels.")
    batch_size: int = Field(16, ge=1, le=MAX_BATCH, description="Images per forward pass.")
    device: Device = Field("auto", description="Where to run.")
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: bool = Field(False, description="Also replace results in out that were changed since.")
    dry_run: bool = Field(False, description="Load models and look at the images, write nothing.")
