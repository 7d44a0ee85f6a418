"""`unip data build`: scan folders of images and write the manifest of a pre-training mix."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from unip.config import Config, verb
from unip.data.manifest import SourceSummary, notes, scan_sources, summary, summary_table, write_manifest
from unip.errors import UnipError
from unip.progress import say

FOLDERS_SHOWN = 5


class BuildConfig(Config):
    """Settings of ``unip data build``."""

    sources: tuple[str, ...] = Field(description="Folders, infrared=FOLDER, rgb=FOLDER, or manifests.")
    out: Path = Field(description="Folder that gets manifest.parquet.")
    workers: int = Field(0, ge=0, description="Threads; 0: one for each core.")
    overwrite: bool = Field(False, description="Replace a manifest that is there.")
    dry_run: bool = Field(False, description="Read and check everything, write nothing.")


@dataclass(frozen=True)
class BuildResult:
    """What was found and written.

    Attributes:
        manifest: Where the manifest is, or would be after a dry run.
        sources: Counts of each source and modality.
        copies: Images whose file has the same bytes as another one.
    """

    manifest: Path
    sources: tuple[SourceSummary, ...]
    copies: int


@verb(BuildConfig)
def build(config: BuildConfig) -> BuildResult:
    """Read every image of the sources, write ``OUT/manifest.parquet`` and print what the mix holds.

    Raises:
        UnipError: A source is missing, empty or damaged, or a manifest is there and must not be replaced.
    """
    manifest = config.out / "manifest.parquet"
    if manifest.exists() and not config.overwrite:
        raise UnipError(f"{manifest} exists", "Choose another --out, or add --overwrite to replace it.")
    table = scan_sources(config.sources, workers=config.workers)
    hashes = table["sha256"].to_pylist()
    result = BuildResult(manifest, tuple(summary(table)), len(hashes) - len(set(hashes)))
    if not config.dry_run:
        write_manifest(table, manifest)
    _print(result, notes(table), config.dry_run)
    return result


def _print(result: BuildResult, said: list[str], dry_run: bool) -> None:
    say(summary_table(result.sources))
    for line in said[:FOLDERS_SHOWN]:
        say(line)
    if len(said) > FOLDERS_SHOWN:
        say(f"and {len(said) - FOLDERS_SHOWN} more folders by their pixels")
    if said:
        say("Write infrared=FOLDER or rgb=FOLDER to settle a modality yourself.")
    if result.copies:
        say(f"{result.copies} images are exact copies of others.")
    say(f"{'dry run, not written:' if dry_run else 'written:'} {result.manifest}")
