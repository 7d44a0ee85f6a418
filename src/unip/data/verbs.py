"""`unip doctor`, `unip data build`, `check` and `pack`: what settings and paths can refuse comes before pyarrow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unip.config import verb
from unip.data.config import BuildConfig, CheckConfig, DoctorConfig, PackConfig
from unip.data.images.files import check_images as refuse_without_images
from unip.data.manifests.listing import list_all
from unip.data.manifests.recipe import recipe_of
from unip.data.manifests.sources import check_manifest, check_sources
from unip.errors import UnipError
from unip.outputs import output_folder
from unip.paths import exists
from unip.runtime.signals import stoppable

if TYPE_CHECKING:
    from unip.data.building import BuildResult
    from unip.data.checking import CheckResult
    from unip.data.examination.records import DoctorResult
    from unip.data.packing import PackResult


@verb(BuildConfig)
def build(config: BuildConfig) -> BuildResult:
    """Read the images of the sources, write ``OUT/manifest.parquet`` and print the counts of each source.

    A file that cannot be used is listed with its reason; the others are still read. After an interruption, the same
    call continues: what was read is in ``OUT/.unip``, frames of videos are in ``OUT/images``; the manifest comes last,
    whole.

    Raises:
        UnipError: A source is missing or empty, nothing can be used, ``OUT`` cannot be written, or a manifest is there
            and must not be replaced.
    """
    recipe = recipe_of(config.sources)
    given = {"root": config.root, "seed": config.seed}
    recipe = recipe.model_copy(update={key: value for key, value in given.items() if value is not None})
    manifest = config.out / "manifest.parquet"
    if exists(manifest) and not config.overwrite:
        raise UnipError(f"{manifest} exists", "Choose another --out, or add --overwrite to replace it.")
    with output_folder(config.out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check("manifest.parquet", "stats.json", "recipe.yaml")
        with stoppable("Run the same command again to continue."), _workplace(config) as place:
            listings = list_all(recipe, place, skip_missing=config.skip_missing)
            from unip.data.building import build_manifest  # needs pyarrow

            return build_manifest(config, recipe, outputs, listings)


@verb(CheckConfig)
def check(config: CheckConfig) -> CheckResult:
    """Decode every file once; print what is wrong, write ``OUT/check.json`` and ``OUT/check.html``.

    Labels are checked too: those of ``data``, and those that lie in folders of ``sources`` in the usual places. A bad
    file does not stop the check. After an interruption, the same call continues: what was read is in ``OUT/.unip``;
    frames with labels are read again.

    Raises:
        UnipError: Nothing was given, a source is missing or empty, ``data`` cannot be opened, or ``OUT`` cannot be
            written.
    """
    if not config.sources and config.data is None:
        raise UnipError("nothing to check", "Give --sources FOLDER, or --data for segmentation data.")
    with output_folder(config.out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check("check.json", "check.html")
        check_sources(config.sources)
        from unip.data.checking import check_images  # needs pyarrow

        return check_images(config, outputs)


@verb(DoctorConfig)
def doctor(config: DoctorConfig) -> DoctorResult:
    """Read a sample of a camera's frames once; say what they are, what is wrong with them and what to do next.

    Prints a summary, writes ``OUT/doctor.json`` and ``OUT/doctor.html``. A bad file does not stop it.

    Raises:
        UnipError: The folder is missing or holds no image, no frame can be read, or ``OUT`` cannot be written.
    """
    with output_folder(config.out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check("doctor.json", "doctor.html")
        refuse_without_images(config.folder)
        from unip.data.examination.examining import examine  # needs pyarrow

        return examine(config, outputs)


@verb(PackConfig)
def pack(config: PackConfig) -> PackResult:
    """Write ``train-00000-of-000NN.parquet`` and so on, and then ``packed.json``.

    Every shard appears whole or not at all. After an interruption the same call goes on with the first missing shard;
    the files are then the same, byte for byte, as without it. Images that cannot be read are skipped and listed.

    Raises:
        UnipError: The manifest cannot be used, the folder holds another packed set, the disk is full or read-only,
            or no image of a whole shard can be read.
        Interrupted: Ctrl-C or SIGTERM; the same call continues.
    """
    with output_folder(config.out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        check_manifest(config.manifest)
        from unip.data.packing import pack_images  # needs pyarrow

        return pack_images(config, outputs)


@contextmanager
def _workplace(config: BuildConfig) -> Iterator[Path]:
    """Give the folder for frames of videos: OUT, or a temporary one for a dry run."""
    if config.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    yield config.out.absolute()
