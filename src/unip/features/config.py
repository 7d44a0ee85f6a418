"""The settings of `unip data dedup`, and of fits on frozen features."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from unip.config import Config, NameOrPath
from unip.data.labelled.settings import DATA_HELP, Remap
from unip.data.manifests.settings import Rule
from unip.limits import MAX_BATCH, MAX_PIXELS, MAX_SIDE
from unip.runtime.memory import Cache
from unip.runtime.settings import MaxPixels


class DedupConfig(Config):
    """Settings of ``unip data dedup``."""

    sources: tuple[NameOrPath, ...] = Field(description="Manifests, folders, infrared=FOLDER or rgb=FOLDER.")
    out: Path = Field(description="Folder that gets manifest.parquet and groups.json.")
    radius: int = Field(4, ge=-1, le=20, description="Bits of 64 in which the hashes may differ; -1: equal files only.")
    frame_radius: int | None = Field(
        None, ge=0, le=32, description="The same for frames of one video or flight (a manifest's groups)."
    )
    rule: Rule = Field(
        "near", description="near: each dropped image is near to its kept one; chain: one of all that chains connect."
    )
    model: NameOrPath | None = Field(None, description="Compare the pooled features of this backbone too.")
    similarity: float = Field(0.95, gt=0, le=1, description="Least cosine of the features of near duplicates.")
    workers: int = Field(0, ge=0, description="Threads; 0: one for each core.")
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: bool = Field(False, description="Replace an existing manifest.")
    dry_run: bool = Field(False, description="Read and compare everything, write nothing.")


class ProbeSettings(Config):
    """Which labelled images the probes are trained and tested on, and how."""

    data: Path = Field(description=DATA_HELP)
    remap: Remap = ()
    train: str = Field("train", min_length=1, description="Split to train on.")
    test: str | None = Field(None, min_length=1, description="Split to test on; none: test, or val if there is none.")
    train_images: int = Field(200, ge=1, description="Maximum number of training images, drawn with the seed.")
    test_images: int = Field(100, ge=1, description="Maximum number of test images, drawn with the seed.")
    short_side: int = Field(
        448, ge=16, le=MAX_SIDE, description="Images are resized to it, rounded to whole patches; pixels."
    )
    batch_size: int = Field(4, ge=1, le=MAX_BATCH, description="Images per forward pass.")
    seed: int = Field(0, ge=0, description="Seed of the draws.")
    l2: float = Field(1e-4, gt=0, description="Weight of the probes' squared norm beside the mean cross-entropy.")
    max_iterations: int = Field(200, ge=1, description="Steps of L-BFGS at most, for each layer.")
    cache: Cache = Field("auto", description="Keep training features in memory, on disk (none), or as it fits (auto).")


class NeighbourSettings(Config):
    """How patches vote."""

    layer: Literal["last"] | int = Field("last", description="Layer of the features, 1-based.")
    k: int = Field(20, ge=1, description="Neighbours that vote.")
    patches: int = Field(100_000, ge=1, description="Training patches at most, drawn with the seed.")
    short_side: int = Field(
        448, ge=16, le=MAX_SIDE, description="Images are resized to it, rounded to whole patches; pixels."
    )
    batch_size: int = Field(4, ge=1, le=MAX_BATCH, description="Images per forward pass.")
