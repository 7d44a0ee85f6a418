"""The settings of `unip doctor`, and of `unip data build`, `check`, `pack`, `split` and `stats`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from unip.config import Config, NameOrPath
from unip.data.images.config import Format
from unip.data.labelled.settings import DATA_HELP, ImagesFolder, MaskOrientationGiven, MasksFolder, MaskSuffix, Remap
from unip.limits import MAX_PIXELS, MAX_SIDE
from unip.runtime.settings import MaxPixels

log = logging.getLogger(__name__)


class BuildConfig(Config):
    """Settings of ``unip data build``."""

    sources: tuple[NameOrPath, ...] = Field(
        description="A recipe (FILE.yaml, or infmix), or folders, infrared=FOLDER, rgb=FOLDER, or manifests."
    )
    out: Path = Field(description="Folder that gets manifest.parquet, stats.json and recipe.yaml.")
    root: Path | None = Field(None, description="Where relative paths of a recipe start; default: its folder.")
    seed: int | None = Field(None, description="Of the caps' draws; default: the recipe's.")
    skip_missing: bool = Field(False, description="Skip sources that do not exist.")
    workers: int = Field(0, ge=0, description="Threads; 0: one for each core.")
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: bool = Field(False, description="Replace an existing manifest.")
    dry_run: bool = Field(False, description="Read and check everything, write nothing.")


class CheckConfig(Config):
    """Settings of ``unip data check``."""

    sources: tuple[NameOrPath, ...] = Field((), description="Folders, infrared=FOLDER, rgb=FOLDER, or manifests.")
    out: Path = Field(description="Folder that gets check.json and check.html.")
    data: Path | None = Field(None, description=DATA_HELP)
    splits: tuple[str, ...] = Field((), description='Splits of data; none: all that are there. "": the folder itself.')
    remap: Remap = ()
    images: ImagesFolder = None
    masks: MasksFolder = None
    mask_suffix: MaskSuffix = None
    mask_orientation: MaskOrientationGiven = None
    min_side: int = Field(64, ge=1, description="An image with a shorter side is too small; pixels.")
    min_contrast: float = Field(
        8, ge=0, description="Levels (of 16-bit frames: counts) that must lie between the 0.5 and 99.5 percentiles."
    )
    max_saturated: float = Field(0.2, gt=0, le=1, description="Share of the pixels at either end of the range.")
    worst: int = Field(24, ge=0, description="How many images of each kind the page shows.")
    workers: int = Field(0, ge=0, description="Threads; 0: one for each core.")
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: bool = Field(False, description="Also replace results in out that were changed since.")
    dry_run: bool = Field(False, description="Read and check everything, write nothing.")


class DoctorConfig(Config):
    """Settings of ``unip doctor``."""

    folder: Path = Field(description="Folder of one camera's frames, or an image.")
    out: Path = Field(Path("doctor"), description="Folder that gets doctor.json and doctor.html.")
    frames: int = Field(200, ge=0, description="How many frames are read at most, evenly chosen; 0: all.")
    radiometric: bool = Field(False, description="Examine the temperatures of radiometric JPEGs, not their pictures.")
    workers: int = Field(0, ge=0, description="Threads; 0: one for each core.")
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: bool = Field(False, description="Also replace results in out that were changed since.")
    dry_run: bool = Field(False, description="Read and examine everything, write nothing.")


class PackConfig(Config):
    """Settings of ``unip data pack``."""

    manifest: Path = Field(description="A manifest, or another packed set.")
    out: Path = Field(description="Folder that gets the shards and packed.json.")
    short_side: int | None = Field(
        None, ge=16, le=MAX_SIDE, description="Reduce larger images to this short side, in pixels."
    )
    shard_mb: float = Field(256, gt=0, description="Approximate size of a shard, in MB.")
    seed: int = Field(0, ge=0, description="Of the permutation that shuffles the whole set.")
    format: Format = Field("keep", description="keep the files' own, or webp, jpeg, png.")
    quality: int = Field(90, ge=1, le=100, description="Quality of JPEG and WebP files that are re-encoded.")
    workers: int = Field(0, ge=0, description="Threads; 0: one for each core.")
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: bool = Field(False, description="Replace a packed set of other settings.")
    dry_run: bool = Field(False, description="Only say what would be written.")


class SplitConfig(Config):
    """Settings of ``unip data split``."""

    data: Path = Field(description=DATA_HELP)
    out: Path = Field(description="Folder to make: a segmentation folder with train, val and test.")
    splits: tuple[str, ...] = Field((), description="Splits of data to take together; none: all that are there.")
    shares: tuple[float, float, float] = Field((0.7, 0.15, 0.15), description="Of train, val and test; 0 leaves out.")
    folds: int | None = Field(
        None, ge=2, le=100, description="Instead of shares: cross-validation, each image in the test part of one fold."
    )
    seed: int = Field(0, ge=0, description="Another seed gives another split.")
    group: str | None = Field(
        None,
        description="Pattern (regex) in the image's path: its first capture group, or all of it, names the video.",
    )
    groups: Path | None = Field(None, description="CSV file that names each image's video or flight.")
    group_column: str = Field("flight", description="Column of groups with the video or flight.")
    file_column: str = Field("file", description="Column of groups with the image's name, with or without ending.")
    remap: Remap = ()
    images: ImagesFolder = None
    masks: MasksFolder = None
    mask_suffix: MaskSuffix = None
    mask_orientation: MaskOrientationGiven = None
    copy_images: bool = Field(False, description="Copy the images, instead of linking to them.")
    workers: int = Field(0, ge=0, description="Threads; 0: one for each core.")
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: bool = Field(False, description="Replace what was written to out before.")
    dry_run: bool = Field(False, description="Show the split, write nothing.")

    @model_validator(mode="before")
    @classmethod
    def _take_the_former_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and str(values.get("images")) in ("copy", "link"):  # as 0.1.0 was told to copy
            how = str(values["images"])
            log.warning(f"--images {how} is taken for how images are kept; it names their folder now: --copy-images")
            return {**values, "images": None, "copy_images": how == "copy"}
        return values


class StatsConfig(Config):
    """Settings of ``unip data stats``."""

    sources: tuple[NameOrPath, ...] = Field((), description="Folders, infrared=FOLDER, rgb=FOLDER, or manifests.")
    data: Path | None = Field(None, description=DATA_HELP)
    splits: tuple[str, ...] = Field((), description='Splits of data; none: all that are there. "": the folder itself.')
    remap: Remap = ()
    images: ImagesFolder = None
    masks: MasksFolder = None
    mask_suffix: MaskSuffix = None
    mask_orientation: MaskOrientationGiven = None
    out: Path | None = Field(None, description="JSON file for the numbers.")
    workers: int = Field(0, ge=0, description="Threads; 0: one for each core.")
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: bool = Field(False, description="Also replace an out that was changed since.")
    dry_run: bool = Field(False, description="Only say what would be read.")
