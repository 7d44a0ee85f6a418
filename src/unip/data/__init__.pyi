"""The verbs of `unip data`, with their settings.

Made by ``make stubs`` from the configs of the verbs; do not edit.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Literal, overload

from unip.data.building import BuildResult
from unip.data.checking import CheckResult
from unip.data.config import BuildConfig, CheckConfig, PackConfig, SplitConfig, StatsConfig
from unip.data.images.config import ThermalSdkConfig
from unip.data.images.dji import ThermalSdkResult
from unip.data.packing import PackResult
from unip.data.splitting import SplitResult
from unip.data.statistics import StatsResult
from unip.data.synthetic.config import ScenesConfig
from unip.data.synthetic.files import ScenesResult
from unip.features.config import DedupConfig
from unip.features.deduplication import DedupResult

@overload
def build(
    *,
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    skip_missing: bool = False,
    workers: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool = False,
) -> BuildResult:
    """Read the images of the sources, write ``OUT/manifest.parquet`` and print the counts of each source.

    A file that cannot be used is listed with its reason; the others are still read. After an interruption, the same
    call continues: what was read is in ``OUT/.unip``, frames of videos are in ``OUT/images``; the manifest comes last,
    whole.

    Settings are keywords, or one ``unip.data.config.BuildConfig``;
    then a dry run is ``build(config, dry_run=True)``.

    Args:
        sources: A recipe (FILE.yaml, or infmix), or folders, infrared=FOLDER, rgb=FOLDER, or manifests.
        out: Folder that gets manifest.parquet, stats.json and recipe.yaml.
        root: Where relative paths of a recipe start; default: its folder.
        seed: Of the caps' draws; default: the recipe's.
        skip_missing: Skip sources that do not exist.
        workers: Threads; 0: one for each core.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Replace an existing manifest.
        dry_run: Read and check everything, write nothing.

    Raises:
        UnipError: A source is missing or empty, nothing can be used, ``OUT`` cannot be written, or a manifest is there
            and must not be replaced.
    """

@overload
def build(config: BuildConfig, /, *, dry_run: bool = False) -> BuildResult: ...
@overload
def check(
    *,
    out: str | os.PathLike[str],
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    data: str | os.PathLike[str] | None = None,
    splits: str | Sequence[str] = (),
    remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    mask_suffix: str | None = None,
    mask_orientation: Literal["shown", "stored"] | None = None,
    min_side: int = 64,
    min_contrast: float = 8,
    max_saturated: float = 0.2,
    worst: int = 24,
    workers: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool = False,
) -> CheckResult:
    """Decode every file once; print what is wrong, write ``OUT/check.json`` and ``OUT/check.html``.

    Labels are checked too: those of ``data``, and those that lie in folders of ``sources`` in the usual places. A bad
    file does not stop the check. After an interruption, the same call continues: what was read is in ``OUT/.unip``;
    frames with labels are read again.

    Settings are keywords, or one ``unip.data.config.CheckConfig``;
    then a dry run is ``check(config, dry_run=True)``.

    Args:
        out: Folder that gets check.json and check.html.
        sources: Folders, infrared=FOLDER, rgb=FOLDER, or manifests.
        data: Segmentation folder (images/, masks/, classes.json; with or without splits; other usual places are
            found), or KIND:PATH for another layout: soda, mfnet, mfnet-rgb, scut, pst900, pst900-rgb, tir-ss,
            fmb, semanticrt, mvseg, infraparis, cart, nyudepthv2, nyudepthv2-rgb, sunrgbd, sunrgbd-rgb, ade20k,
            hit-uav, colours, cityscapes, coco, labelme, yolo-seg, cvat, label-studio.
        splits: Splits of data; none: all that are there. "": the folder itself.
        remap: Changes of labels, OLD=NEW: a class or an id in the files becomes another class, or ignore.
        images: Folder of the images in a plain folder, if it is not found; {split}: the split's name.
        masks: Folder of the masks in a plain folder, if it is not found; {split}: the split's name.
        mask_suffix: What follows an image's name in its mask's, such as _mask; "": nothing. None: it is found.
        mask_orientation: What mask files of images with an EXIF orientation fit: the picture as viewers turn it
            (shown), or the pixels as stored. None: it is found where size or tags tell.
        min_side: An image with a shorter side is too small; pixels.
        min_contrast: Levels (of 16-bit frames: counts) that must lie between the 0.5 and 99.5 percentiles.
        max_saturated: Share of the pixels at either end of the range.
        worst: How many images of each kind the page shows.
        workers: Threads; 0: one for each core.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Also replace results in out that were changed since.
        dry_run: Read and check everything, write nothing.

    Raises:
        UnipError: Nothing was given, a source is missing or empty, ``data`` cannot be opened, or ``OUT`` cannot be
            written.
    """

@overload
def check(config: CheckConfig, /, *, dry_run: bool = False) -> CheckResult: ...
@overload
def dedup(
    *,
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    radius: int = 4,
    frame_radius: int | None = None,
    rule: Literal["near", "chain"] = "near",
    model: str | os.PathLike[str] | None = None,
    similarity: float = 0.95,
    workers: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool = False,
) -> DedupResult:
    """Find exact and near duplicates and write a manifest that keeps one of each group; no file is touched.

    After an interruption, the same call continues: what was read, and features, are in ``OUT/.unip``.

    Settings are keywords, or one ``unip.features.config.DedupConfig``;
    then a dry run is ``dedup(config, dry_run=True)``.

    Args:
        sources: Manifests, folders, infrared=FOLDER or rgb=FOLDER.
        out: Folder that gets manifest.parquet and groups.json.
        radius: Bits of 64 in which the hashes may differ; -1: equal files only.
        frame_radius: The same for frames of one video or flight (a manifest's groups).
        rule: near: each dropped image is near to its kept one; chain: one of all that chains connect.
        model: Compare the pooled features of this backbone too.
        similarity: Least cosine of the features of near duplicates.
        workers: Threads; 0: one for each core.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Replace an existing manifest.
        dry_run: Read and compare everything, write nothing.

    Raises:
        UnipError: A source is missing or empty, nothing can be used, ``OUT`` cannot be written, a manifest is there and
            must not be replaced, or the model cannot be loaded.
    """

@overload
def dedup(config: DedupConfig, /, *, dry_run: bool = False) -> DedupResult: ...
@overload
def pack(
    *,
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    short_side: int | None = None,
    shard_mb: float = 256,
    seed: int = 0,
    format: Literal["keep", "webp", "jpeg", "png"] = "keep",
    quality: int = 90,
    workers: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool = False,
) -> PackResult:
    """Write ``train-00000-of-000NN.parquet`` and so on, and then ``packed.json``.

    Every shard appears whole or not at all. After an interruption the same call goes on with the first missing shard;
    the files are then the same, byte for byte, as without it. Images that cannot be read are skipped and listed.

    Settings are keywords, or one ``unip.data.config.PackConfig``;
    then a dry run is ``pack(config, dry_run=True)``.

    Args:
        manifest: A manifest, or another packed set.
        out: Folder that gets the shards and packed.json.
        short_side: Reduce larger images to this short side, in pixels.
        shard_mb: Approximate size of a shard, in MB.
        seed: Of the permutation that shuffles the whole set.
        format: keep the files' own, or webp, jpeg, png.
        quality: Quality of JPEG and WebP files that are re-encoded.
        workers: Threads; 0: one for each core.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Replace a packed set of other settings.
        dry_run: Only say what would be written.

    Raises:
        UnipError: The manifest cannot be used, the folder holds another packed set, the disk is full or read-only,
            or no image of a whole shard can be read.
        Interrupted: Ctrl-C or SIGTERM; the same call continues.
    """

@overload
def pack(config: PackConfig, /, *, dry_run: bool = False) -> PackResult: ...
@overload
def stats(
    *,
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    data: str | os.PathLike[str] | None = None,
    splits: str | Sequence[str] = (),
    remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    mask_suffix: str | None = None,
    mask_orientation: Literal["shown", "stored"] | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[False] = False,
) -> StatsResult:
    """Read every image (and mask) once, print both tables, and write them to ``out``.

    Images are taken as models see them: 8 bits by their conversion, not cropped. Damaged files and bad pairs are
    listed.

    Settings are keywords, or one ``unip.data.config.StatsConfig``;
    then a dry run is ``stats(config, dry_run=True)``.

    Args:
        sources: Folders, infrared=FOLDER, rgb=FOLDER, or manifests.
        data: Segmentation folder (images/, masks/, classes.json; with or without splits; other usual places are
            found), or KIND:PATH for another layout: soda, mfnet, mfnet-rgb, scut, pst900, pst900-rgb, tir-ss,
            fmb, semanticrt, mvseg, infraparis, cart, nyudepthv2, nyudepthv2-rgb, sunrgbd, sunrgbd-rgb, ade20k,
            hit-uav, colours, cityscapes, coco, labelme, yolo-seg, cvat, label-studio.
        splits: Splits of data; none: all that are there. "": the folder itself.
        remap: Changes of labels, OLD=NEW: a class or an id in the files becomes another class, or ignore.
        images: Folder of the images in a plain folder, if it is not found; {split}: the split's name.
        masks: Folder of the masks in a plain folder, if it is not found; {split}: the split's name.
        mask_suffix: What follows an image's name in its mask's, such as _mask; "": nothing. None: it is found.
        mask_orientation: What mask files of images with an EXIF orientation fit: the picture as viewers turn it
            (shown), or the pixels as stored. None: it is found where size or tags tell.
        out: JSON file for the numbers.
        workers: Threads; 0: one for each core.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Also replace an out that was changed since.
        dry_run: Only say what would be read.

    Returns:
        The numbers, or None for a dry run.

    Raises:
        UnipError: Nothing was given, a source is missing, or no file of a source can be read.
    """

@overload
def stats(
    *,
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    data: str | os.PathLike[str] | None = None,
    splits: str | Sequence[str] = (),
    remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    mask_suffix: str | None = None,
    mask_orientation: Literal["shown", "stored"] | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: Literal[True],
) -> None: ...
@overload
def stats(
    *,
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    data: str | os.PathLike[str] | None = None,
    splits: str | Sequence[str] = (),
    remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    mask_suffix: str | None = None,
    mask_orientation: Literal["shown", "stored"] | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool,
) -> StatsResult | None: ...
@overload
def stats(config: StatsConfig, /, *, dry_run: Literal[False] = False) -> StatsResult: ...
@overload
def stats(config: StatsConfig, /, *, dry_run: Literal[True]) -> None: ...
@overload
def stats(config: StatsConfig, /, *, dry_run: bool) -> StatsResult | None: ...
@overload
def split(
    *,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    splits: str | Sequence[str] = (),
    shares: tuple[float, float, float] | list[float] = (0.7, 0.15, 0.15),
    folds: int | None = None,
    seed: int = 0,
    group: str | None = None,
    groups: str | os.PathLike[str] | None = None,
    group_column: str = "flight",
    file_column: str = "file",
    remap: str | Sequence[str] | Mapping[str, str] | Mapping[int, str] = (),
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    mask_suffix: str | None = None,
    mask_orientation: Literal["shown", "stored"] | None = None,
    copy_images: bool = False,
    workers: int = 0,
    max_pixels: int = 200000000,
    overwrite: bool = False,
    dry_run: bool = False,
) -> SplitResult:
    """Divide labelled images, a group never between two splits, and write a segmentation folder.

    The same seed, names and masks give the same split, wherever the data lies and in whatever order it is listed.

    Settings are keywords, or one ``unip.data.config.SplitConfig``;
    then a dry run is ``split(config, dry_run=True)``.

    Args:
        data: Segmentation folder (images/, masks/, classes.json; with or without splits; other usual places are
            found), or KIND:PATH for another layout: soda, mfnet, mfnet-rgb, scut, pst900, pst900-rgb, tir-ss,
            fmb, semanticrt, mvseg, infraparis, cart, nyudepthv2, nyudepthv2-rgb, sunrgbd, sunrgbd-rgb, ade20k,
            hit-uav, colours, cityscapes, coco, labelme, yolo-seg, cvat, label-studio.
        out: Folder to make: a segmentation folder with train, val and test.
        splits: Splits of data to take together; none: all that are there.
        shares: Of train, val and test; 0 leaves out.
        folds: Instead of shares: cross-validation, each image in the test part of one fold.
        seed: Another seed gives another split.
        group: Pattern (regex) in the image's path: its first capture group, or all of it, names the video.
        groups: CSV file that names each image's video or flight.
        group_column: Column of groups with the video or flight.
        file_column: Column of groups with the image's name, with or without ending.
        remap: Changes of labels, OLD=NEW: a class or an id in the files becomes another class, or ignore.
        images: Folder of the images in a plain folder, if it is not found; {split}: the split's name.
        masks: Folder of the masks in a plain folder, if it is not found; {split}: the split's name.
        mask_suffix: What follows an image's name in its mask's, such as _mask; "": nothing. None: it is found.
        mask_orientation: What mask files of images with an EXIF orientation fit: the picture as viewers turn it
            (shown), or the pixels as stored. None: it is found where size or tags tell.
        copy_images: Copy the images, instead of linking to them.
        workers: Threads; 0: one for each core.
        max_pixels: Largest frame to decode, in pixels (width x height); a header that claims more is refused.
        overwrite: Replace what was written to out before.
        dry_run: Show the split, write nothing.

    Raises:
        UnipError: Data is bad, a group is not told for an image, there are too few groups, or out is there.
    """

@overload
def split(config: SplitConfig, /, *, dry_run: bool = False) -> SplitResult: ...
@overload
def scenes(
    *,
    out: str | os.PathLike[str],
    count: int = 1000,
    size: tuple[int, int] | list[int] = (256, 320),
    seed: int = 0,
    splits: tuple[float, float, float] | list[float] = (0.8, 0.1, 0.1),
    workers: int | Literal["auto"] = "auto",
    overwrite: bool = False,
    dry_run: bool = False,
) -> ScenesResult:
    """Generate scenes into a folder; run again after an interruption, it goes on where it stopped.

    Settings are keywords, or one ``unip.data.synthetic.config.ScenesConfig``;
    then a dry run is ``scenes(config, dry_run=True)``.

    Args:
        out: Folder to make: train, val and test, each with images, masks, visible, thermal16.
        count: Number of scenes.
        size: Height and width in pixels.
        seed: Another seed gives other scenes.
        splits: Shares of train, val and test that add up to 1, or their counts.
        workers: Processes; auto: one for each core.
        overwrite: Replace scenes of other settings.
        dry_run: Say what would be written, write nothing.

    Returns:
        Counts and time.

    Raises:
        UnipError: The folder holds something else, or cannot be written.
        Interrupted: Ctrl-C; the finished scenes stay.
    """

@overload
def scenes(config: ScenesConfig, /, *, dry_run: bool = False) -> ScenesResult: ...
@overload
def thermal_sdk(*, source: str | os.PathLike[str], overwrite: bool = False, dry_run: bool = False) -> ThermalSdkResult:
    """Copy DJI's Thermal SDK into this Python environment, for temperatures of DJI R-JPEGs; replaces an earlier one.

    Settings are keywords, or one ``unip.data.images.config.ThermalSdkConfig``;
    then a dry run is ``thermal_sdk(config, dry_run=True)``.

    Args:
        source: The unpacked SDK of DJI, or the folder in it that holds libdirp.
        overwrite: Also replace an earlier library that was changed since.
        dry_run: See whether its library can be loaded, copy nothing.

    Raises:
        UnipError: There is no library in it that works here, or the environment cannot be written.
    """

@overload
def thermal_sdk(config: ThermalSdkConfig, /, *, dry_run: bool = False) -> ThermalSdkResult: ...
