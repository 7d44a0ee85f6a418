"""`unip data pack`: write the images of a manifest into shuffled Parquet shards."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from unip.data.config import PackConfig
from unip.data.images.addresses import read_bytes
from unip.data.images.encoding import Encoded, encode
from unip.data.manifests.manifest import read_manifest
from unip.data.manifests.packed import VERSION
from unip.data.manifests.rows import Row
from unip.data.manifests.shards import (
    NO_NOTE,
    PackIdentity,
    ShardNote,
    SkippedImage,
    read_note,
    shard_schema,
    write_shard,
)
from unip.data.manifests.sources import INDEX, find_index, printable
from unip.errors import UnipError
from unip.files import sha256
from unip.outputs import OutputFolder, write_json
from unip.paths import resolve, status
from unip.progress import Meter, meter
from unip.runtime.seeds import seed_for
from unip.runtime.signals import stoppable
from unip.runtime.workers import map_threads

log = logging.getLogger(__name__)

PROBE_IMAGES = 64  # images that are encoded to guess the size of the set
SKIPPED_SHOWN = 5
ROWS_AHEAD = 4096  # at most so many rows, or so many bytes of files, are read ahead of the writer
BYTES_AHEAD = 256_000_000


@dataclass(frozen=True)
class PackResult:
    """What was written.

    Attributes:
        index: The index file, which like its folder can be given as ``--data``.
        shards: Number of shards.
        images: Images in them; after a dry run, those of the manifest.
        bytes: Size of the shards; after a dry run a guess.
        kept_shards: Shards that an earlier, interrupted run had finished.
        skipped: Images that could not be packed.
    """

    index: Path
    shards: int
    images: int
    bytes: int
    kept_shards: int
    skipped: tuple[SkippedImage, ...]


@dataclass(frozen=True)
class ShardPlan:
    """What decides the content of every shard.

    Attributes:
        table: The manifest.
        order: ``(rows,)`` the permutation.
        folder: Of the manifest: paths inside it are stored relative to it.
        identity: What must agree for shards to belong together.
        shards: How many.
    """

    table: Any
    order: npt.NDArray[np.int64]
    folder: bytes
    identity: PackIdentity
    shards: int

    def file(self, number: int) -> str:
        """Return the name of a shard."""
        return f"train-{number:05d}-of-{self.shards:05d}.parquet"

    def rows(self, number: int) -> npt.NDArray[np.int64]:
        """Return the rows of the manifest that a shard holds, in its order: an even share of the permutation."""
        first, end = (len(self.order) * n // self.shards for n in (number, number + 1))
        return self.order[first:end]


def pack_images(config: PackConfig, outputs: OutputFolder) -> PackResult:
    """Do what is left of :func:`unip.data.verbs.pack` once the manifest is known to be there."""
    plan, finished = make_plan(config)
    shards = sorted(config.out.glob("train-*.parquet"))
    damaged = [path.name for path in shards if outputs.state(path.name) == "edited" and read_note(path) is None]
    outputs.check(INDEX, *(path.name for path in shards if path.name not in damaged))
    result = PackResult(config.out / INDEX, plan.shards, len(plan.order), 0, len(finished), ())
    if config.dry_run:
        size = round(_guess_bytes(plan, config))
        log.info(
            f"{result.images:,} images, about {size / 1e6:,.1f} MB in {plan.shards} shards, {len(finished)} finished"
        )
        log.info(f"dry run, not written: {config.out}")
        return replace(result, bytes=size)
    for name in damaged:
        log.warning(f"{name} is damaged and is written again; what is left of it is {outputs.set_aside(name).name}")
    _clear(config, plan, outputs)
    done = sum(len(plan.rows(number)) for number in finished)
    if finished:
        log.info(f"{len(finished)} of {plan.shards} shards are there already")
    advice = "Run the same call again: finished shards are kept."
    with stoppable(advice), meter("packing", len(plan.order), "images", start=done) as progress:
        for number in range(plan.shards):
            if number not in finished:
                finished[number] = _write_shard(plan, number, config, progress)
    return _finish(config, plan, finished, result.kept_shards)


def make_plan(config: PackConfig) -> tuple[ShardPlan, dict[int, ShardNote]]:
    """Return the plan, and the notes of the shards that are already finished, by number."""
    source = find_index(config.manifest) or config.manifest
    table = read_manifest(source, may_miss=True)
    table = table.drop_columns("modified")  # it is the files', which are left behind
    table = table.drop_columns("image") if table["image"].null_count == table.num_rows else table
    settings = config.model_dump(include={"seed", "short_side", "shard_mb", "format", "quality"})
    identity = PackIdentity(VERSION, sha256(source), table.num_rows, **settings)
    order = np.random.default_rng(seed_for(config.seed, table.num_rows)).permutation(table.num_rows)
    folder = os.fsencode(resolve(source.parent)) + os.fsencode(os.sep)
    plan = ShardPlan(table, order, folder, identity, 1)
    notes = _finished_notes(config, identity)
    # The size is guessed from a few images, one of which may be gone by now: what was begun tells the number for sure.
    number = next((note.shards for note in notes.values()), 0)
    plan = ShardPlan(table, order, folder, identity, number or _count_shards(plan, config))
    finished = {
        note.shard: note
        for name, note in notes.items()
        if name == plan.file(note.shard) and not _can_pack_skipped(plan, note, config)
    }
    return plan, finished


def _finished_notes(config: PackConfig, identity: PackIdentity) -> dict[str, ShardNote]:
    """Return the notes of finished shards in the output folder by file name."""
    notes = {}
    for path in sorted(config.out.glob("train-*.parquet")):
        note = read_note(path)
        if note == NO_NOTE:
            raise UnipError(f"{path} was not written by `unip data pack`", "Choose another --out.")
        if note and note.identity == identity:
            notes[path.name] = note
        elif note and not config.overwrite:  # one that cannot be read at all is written again
            raise UnipError(
                f"{config.out} holds {path.name}, which is of another manifest or other settings",
                "Choose another --out, or add --overwrite to replace it.",
            )
    return notes


def _clear(config: PackConfig, plan: ShardPlan, outputs: OutputFolder) -> None:
    """Remove another packed set, which ``overwrite`` allows."""
    planned = {plan.file(number) for number in range(plan.shards)}
    for path in config.out.glob("train-*.parquet"):
        note = read_note(path)
        if path.name not in planned or not note or note.identity != plan.identity:
            outputs.remove(INDEX, path.name)  # the index would speak of shards that are gone


def _can_pack_skipped(plan: ShardPlan, note: ShardNote, config: PackConfig) -> bool:
    """Say whether an image that a finished shard had to skip can be packed now: then the shard is made again."""
    skipped = np.array([image.row for image in note.skipped], dtype=np.int64)
    return any(isinstance(item, tuple) for item in _encode_rows(plan, skipped, config))


def _count_shards(plan: ShardPlan, config: PackConfig) -> int:
    number = round(_guess_bytes(plan, config) / (config.shard_mb * 1e6))
    return min(max(1, number), len(plan.order), 99_999)


def _guess_bytes(plan: ShardPlan, config: PackConfig) -> float:
    if config.format == "keep" and config.short_side is None:
        return float(sum(plan.table["bytes"].to_pylist()))
    done = [item for item in _encode_rows(plan, plan.order[:PROBE_IMAGES], config) if isinstance(item, tuple)]
    return len(plan.order) * sum(len(image.data) for _, image in done) / max(1, len(done))


def _encode_rows(
    plan: ShardPlan, numbers: npt.NDArray[np.int64], config: PackConfig
) -> Iterator[tuple[Row, Encoded] | SkippedImage]:
    """Yield each row with its image, or why there is none."""
    how = config.model_dump(include={"short_side", "format", "quality"})

    def one(item: tuple[int, dict[str, Any]]) -> tuple[Row, Encoded] | SkippedImage:
        number, row = item[0], Row(**item[1])
        name = os.fsdecode(row.path) if row.path else f"embedded image {row.sha256}"
        try:
            image = encode(row.image or read_bytes(row.path or b""), vars(row), **how)
            return replace(row, image=None), image
        except OSError as error:
            return SkippedImage(number, name, f"cannot be read: {error.strerror or error}")
        except UnipError as error:
            return SkippedImage(number, name, error.what)

    ends = np.cumsum(plan.table["bytes"].to_numpy()[numbers])
    part = ends // BYTES_AHEAD + np.arange(len(numbers)) // ROWS_AHEAD
    for some in np.split(numbers, np.flatnonzero(np.diff(part)) + 1):
        rows = list(zip(some.tolist(), plan.table.take(pa.array(some)).to_pylist(), strict=True))
        yield from map_threads(one, rows, "packing", workers=config.workers, quiet=True)


def _write_shard(plan: ShardPlan, number: int, config: PackConfig, progress: Meter) -> ShardNote:
    """Write one shard and return its note."""
    numbers = plan.rows(number)
    skipped: list[SkippedImage] = []
    path = config.out / plan.file(number)

    def rows() -> Iterator[tuple[Row, Encoded]]:
        for item in _encode_rows(plan, numbers, config):
            if isinstance(item, SkippedImage):
                skipped.append(item)
            else:
                row, image = item
                yield replace(row, path=row.path and row.path.removeprefix(plan.folder)), image
            progress.advance()

    def note() -> ShardNote:
        if len(skipped) == len(numbers):
            raise UnipError(
                f"none of the {len(numbers)} images of {path.name} can be packed, the first is "
                f"{printable(skipped[0].path)}: {skipped[0].reason}",
                "Put the files back (is their disk there?) and run the same call again; finished shards are kept.",
            )
        return ShardNote(plan.identity, number, plan.shards, len(numbers) - len(skipped), tuple(skipped))

    write_shard(path, shard_schema(plan.table.schema), rows(), note)
    return note()


def _finish(config: PackConfig, plan: ShardPlan, notes: dict[int, ShardNote], kept: int) -> PackResult:
    """Write the index and tell what was packed."""
    files = [config.out / plan.file(number) for number in range(plan.shards)]
    sizes = [status(file).st_size for file in files]
    skipped = tuple(image for number in range(plan.shards) for image in notes[number].skipped)
    images = sum(note.rows for note in notes.values())
    index = {
        **asdict(plan.identity),
        "rows": images,
        "shards": [
            {"file": file.name, "rows": notes[number].rows, "bytes": size}
            for number, (file, size) in enumerate(zip(files, sizes, strict=True))
        ],
        "skipped": [asdict(image) for image in skipped],
    }
    write_json(config.out / INDEX, index)
    result = PackResult(config.out / INDEX, plan.shards, images, sum(sizes), kept, skipped)
    for entry in skipped[:SKIPPED_SHOWN]:
        log.warning(f"skipped {printable(entry.path)}: {entry.reason}")
    if len(skipped) > SKIPPED_SHOWN:
        log.warning(f"and {len(skipped) - SKIPPED_SHOWN} more, all in {config.out / INDEX}")
    log.info(f"{result.images:,} images, {result.bytes / 1e6:,.1f} MB in {result.shards} shards: {config.out}")
    return result
