"""Files that unip writes itself, and settings: JSON, lines of JSON, YAML, CSV, Parquet."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from tests.fuzzing.checking import Reader
from tests.fuzzing.labelled import make_folder, parsed, picture, write
from tests.fuzzing.mutations import WRONG, change_json, change_lines, change_words, change_yaml
from unip.data.images.addresses import read_bytes
from unip.data.images.decoding import decode_image
from unip.data.labelled.record import read_records
from unip.data.manifests.facts import facts_of
from unip.data.manifests.listing import list_entries
from unip.data.manifests.manifest import notes, read_manifest
from unip.data.manifests.recipe import SourceConfig, read_recipe
from unip.data.manifests.shards import read_note
from unip.data.splitting import read_groups
from unip.data.verbs import build, pack
from unip.files import read_json
from unip.output_folder import OutputFolder
from unip.pretraining.config import PretrainConfig
from unip.pretraining.preparing import KnownLayers
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.held_out import HeldOut
from unip.suites.records import CellRecord, read_corrupted
from unip.suites.suite import Locations, read_suite
from unip.training.checksums import read_state, write_state
from unip.training.run_folder import RunFolder
from unip.written import read_list
from unip.zoo.lineage import data_ancestor, read_lineage

SCORES = {
    **dict.fromkeys(("miou", "foreground_miou", "mean_accuracy", "pixel_accuracy"), 0.5),
    "pixels": 192,
    "classes": [{"name": name, "iou": 0.5, "accuracy": None, "pixels": 96} for name in ("background", "hot")],
    "confusion_matrix": [[90, 6], [6, 90]],
}
CELL = {
    **SCORES,
    "key": "ab" * 32,
    "axes": {"init": "a", "dataset": "b", "protocol": "c", "label_budget": 1.0, "seed": 0},
    "kind": "finetune",
    "split": "test",
    "images": 3,
    "seconds": 1.5,
    "device": "cpu",
    "versions": {"torch": "2"},
    "labelled_images": 6,
    "train_seconds": 1.0,
    "spec": {"short_side": 64},
    "backbone_only": False,
    "chosen": {"lr": 0.1},
    "choice_val_miou": [0.5],
}
FACTS = [[12, 16], 768, [100, 92, 0], [[1, 92]], False, True, True, "", None]
LABELS = {
    "train": {
        "read_as": {"name": "x", "classes": "[]", "ids": "[]", "channel": "null", "conversion": "null"},
        "pairs": [[["a.png", "b.png", [1, 2], [3, 4, 5]], FACTS], [["c.png", "d.png", [1, 2], [3, 4, 5]], None]],
    }
}
LINEAGE = {
    "lineage": {
        "code": "unip 0.2",
        "ancestors": [{"role": "init", "name": "x", "licence": "MIT", "sha256": "ab" * 32, "source": "timm:x"}],
    }
}
RECIPE = """sources:
  - {folder: images, name: camera, modality: infrared, cap: 10, every: 1, weight: 2.0, group: 1}
  - {glob: "images/*/*.png", name: other, modality: infrared, conversion: {method: percentile, percentiles: [1, 99]}}
seed: 3
copies: drop
"""
FINETUNE = """model: unip-ir-tiny
data: here
out: there
decoder: upernet
lr: 0.0001
base: [64, 48]
steps: 100
seed: 1
remap: ["hot=person"]
"""
PRETRAIN = """teacher: [unip-ir-tiny]
data: [infrared=here]
out: there
steps: 100
lr: 0.001
"""


def state(folder: Path, with_checksums: bool) -> Path:
    record = {"step": 10, "extra": {"loss": 0.5, "position": 40}, "best": {"step": 5, "miou": 0.4}}
    if with_checksums:
        write_state(folder, record, {})
        return folder / "state.json"
    return write(folder / "state.json", record)


def check_state(path: Path, value: Any) -> None:
    record = parsed(path)
    record.pop("sha256", None)
    assert value == record


def read_log(path: Path) -> Any:
    return RunFolder(OutputFolder(path.parent)).read_log()


def check_log(path: Path, value: Any) -> None:
    """See that each record is a line of the file: of floats, but a step that is the same whole number."""
    lines, steps = [], []
    for line in path.read_bytes().split(b"\n"):
        try:
            lines.append(json.loads(line, parse_int=float))
            steps.append(json.loads(line)["step"])
        except (ValueError, RecursionError, KeyError, TypeError):
            continue
    assert all(record in lines and record["step"] in steps for record in value)


def make_journal(folder: Path) -> Path:
    picture(folder / "a.png")
    list(facts_of([os.fsencode(folder / "a.png")], folder / "x.facts", workers=1))
    return folder / "x.facts"


def read_journal(path: Path) -> Any:
    return list(facts_of([os.fsencode(path.parent / "a.png")], path, workers=1))


def make_pack(folder: Path, changed: str) -> Path:
    for i in range(3):
        (folder / "images").mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 50), 10 * i, np.uint8)).save(folder / f"images/{i}.png")
    build(sources=(f"infrared={folder / 'images'}",), out=folder / "set", workers=1)
    pack(manifest=folder / "set/manifest.parquet", out=folder / "pack", workers=1)
    if changed.endswith(".parquet") and "*" in changed:
        return next(folder.glob(changed))
    return folder / changed


def read_packed(path: Path) -> Any:
    read_note(next(path.parent.glob("*.parquet")))
    table = read_manifest(path.parent)
    return [decode_image(read_bytes(address), "x").mean() for address in table["path"].to_pylist()]


def read_rows(path: Path) -> Any:
    table = read_manifest(path)
    notes(table)
    return list_entries(SourceConfig(manifest=str(path)), path.parent, path.parent / "store").entries, table


def check_rows(path: Path, value: Any) -> None:
    entries, table = value
    whole = pq.read_table(path)
    names = [name for name in ("width", "sha256", "kept") if name in whole.column_names]
    rows = [row for row in whole.select(names).to_pylist() if row.get("kept", True)]
    assert [row["width"] for row in rows] == table["width"].to_pylist()
    assert [row["sha256"] for row in rows] == table["sha256"].to_pylist()
    assert len(entries) == len(rows)


def change_parquet(data: bytes, random: Random) -> bytes:
    """Change cells, columns and their types; images stay where a packed set looks for them."""
    table = pq.read_table(io.BytesIO(data))
    number = random.randrange(table.num_columns)
    name, cells, kind = table.column_names[number], table[number].to_pylist(), table.schema.types[number]
    metadata = dict(table.schema.metadata or {})
    action = random.randrange(7)
    try:
        if action == 0:
            table = table.drop([name])
        elif action == 1:
            table = table.set_column(number, name, pa.array([random.choice(WRONG)] * len(cells)))
        elif action == 2:
            place = random.randrange(len(cells))
            cells[place] = random.choice((None, 0, -1, 2**40, "", "x", b"\xff", float("nan"), cells[0]))
            table = table.set_column(number, name, pa.array(cells, random.choice((kind, None))))
        elif action == 3:
            others = [*table.column_names[:number], random.choice(["x", "path", "image"])]
            table = table.rename_columns([*others, *table.column_names[number + 1 :]])
        elif action == 4:
            metadata[b"unip.notes"] = random.choice((b"{", b"[1]", b"\xff", b"[" * 3000, b'["x"]'))
        elif action == 5:
            table = pa.concat_tables([table, table]) if random.random() < 0.5 else table.slice(0, 0)
        else:  # text that is not UTF-8
            texts = pa.array([b"a", random.choice((b"\xff", b"\xe8a")), b"c"][: len(cells)], pa.binary())
            table = table.set_column(number, name, texts.view(pa.string()))
        out = io.BytesIO()
        plain = table.replace_schema_metadata(metadata)
        pq.write_table(plain, out, compression="none", use_dictionary=False, data_page_size=1 << 30)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return data[: random.randrange(len(data))]
    return out.getvalue()


def make_suite(folder: Path) -> Path:
    import unip.recipes

    source = Path(unip.recipes.__file__).parent
    shutil.copytree(source, folder / "recipes")
    return sorted((folder / "recipes/suites").glob("*.yaml"))[0]


def read_whole_suite(path: Path) -> Any:
    suite = read_suite(path)
    Locations([], None).check(suite)
    return list(suite.cells())


def check_settings(path: Path, value: Any) -> None:
    """See that numbers are as the file has them."""
    stated = yaml.load(path.read_text("utf-8-sig"), yaml.BaseLoader) or {}
    for name in ("steps", "seed", "lr"):
        if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", str(stated.get(name))):
            assert float(getattr(value, name)) == float(stated[name])


def make_recipe(folder: Path, text: str, images: str) -> Path:
    """Write a recipe, and what it names."""
    make_folder(folder / images)
    return write(folder / "x.yaml", text)


def settings(text: str, config: Any, verb: str) -> Reader:
    return Reader(
        lambda folder: make_recipe(folder, text, "here"),
        lambda path: config.from_yaml(path),
        change_yaml,
        check_settings,
        lambda path: [verb, "--config", str(path), "--dry-run"],
    )


def groups_source(path: Path) -> Any:
    read_groups(path, "file", "group")
    source = SourceConfig(folder=str(path.parent / "images"), groups=str(path), modality="infrared")
    return [entry.group for entry in list_entries(source, path.parent, path.parent / "store").entries]


def make_groups(folder: Path) -> Path:
    picture(folder / "images/a.png")
    return write(folder / "groups.csv", "file,group\na.png,one\nb.png,two\nc.png,one\n")


def json_file(name: str, value: Any, read: Any, check: Any = None) -> Reader:
    return Reader(lambda folder: write(folder / name, value), read, change_json, check or (lambda path, value: None))


def check_held_out(path: Path, value: Any) -> None:
    assert value.to_dict()["held"] == parsed(path)["held"]


def check_cell(path: Path, value: Any) -> None:
    record = parsed(path)
    assert value.confusion_matrix == [[int(count) for count in row] for row in record["confusion_matrix"]]
    assert value.images == int(record["images"])


def check_card(path: Path, value: Any) -> None:
    record = parsed(path)
    assert (value.licence, value.source) == (record.get("licence"), record.get("source"))


LOG = "".join(json.dumps({"step": i, "loss": 1 / (i + 1), "lr": 0.1}) + "\n" for i in range(4))
FILES = "".join(json.dumps({"file": f"{i}.txt", "size": i, "sha256": "ab" * 32}) + "\n" for i in range(4))
HELD = {"split": "train", "images": 4, "groups": 2, "how": "folders", "held": {"a/1.png": "a", "a/2.png": "a"}}
LAYER = {"source": "x", "sha256": None, "weight": 1.0, "zoom": 1.0, "layer": 2, "lines": []}

READERS = {
    "state.json": Reader(lambda f: state(f, True), lambda p: read_state(p.parent), change_json, check_state),
    "state.json, no checksums": Reader(
        lambda f: state(f, False), lambda p: read_state(p.parent), change_json, check_state
    ),
    "log.jsonl": Reader(lambda f: write(f / "log.jsonl", LOG), read_log, change_lines, check_log),
    "files.jsonl": Reader(lambda f: write(f / "files.jsonl", FILES), read_list, change_lines),
    "facts": Reader(make_journal, read_journal, change_lines),
    "labels.json": json_file("labels.json", LABELS, read_records),
    "held_out.json": json_file("held_out.json", HELD, HeldOut.read, check_held_out),
    "teacher.json": json_file("teacher.json", {"teachers": [LAYER]}, lambda path: read_json(path, KnownLayers)),
    "cell.json": json_file("cell.json", CELL, lambda path: CellRecord.read(path.parent), check_cell),
    "corrupted.json": json_file("corrupted.json", {"blur:1": SCORES}, lambda path: read_corrupted(path.parent)),
    "dataset.json": json_file(
        "dataset.json",
        {"name": "x", "licence": "MIT", "source": "https://example.org"},
        lambda path: data_ancestor("x", path.parent, []),
        check_card,
    ),
    "lineage": json_file("config.json", LINEAGE, lambda path: read_lineage(read_json(path), str(path))),
    "groups.csv": Reader(make_groups, groups_source, change_words),
    "recipe of data": Reader(
        lambda folder: make_recipe(folder, RECIPE, "images"),
        read_recipe,
        change_yaml,
        command=lambda path: ["data", "build", str(path), "--out", str(path.parent / "out"), "--dry-run"],
    ),
    "recipe of finetune": settings(FINETUNE, FinetuneConfig, "finetune"),
    "recipe of pretrain": settings(PRETRAIN, PretrainConfig, "pretrain"),
    "suite": Reader(
        make_suite,
        read_whole_suite,
        change_yaml,
    ),
    "packed.json": Reader(lambda f: make_pack(f, "pack/packed.json"), read_packed, change_json),
    "packed shard": Reader(
        lambda f: make_pack(f, "pack/*.parquet"), lambda path: read_packed(path.parent / "packed.json"), change_parquet
    ),
    "manifest.parquet": Reader(lambda f: make_pack(f, "set/manifest.parquet"), read_rows, change_parquet, check_rows),
}
