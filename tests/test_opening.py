"""Pipes, devices and sockets behind a file's name are refused wherever files are opened, at once and without reading
them."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import multiprocessing
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import unip
from unip import cli
from unip.data.images.addresses import read_bytes
from unip.data.images.decoding import read_image, read_image8, read_samples
from unip.data.images.files import list_images
from unip.data.images.radiometric import read_temperature
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.masks import ColourFile, MaskFile
from unip.data.labelled.pairs import read_channel
from unip.data.labelled.readers.colours import read_palette
from unip.data.labelled.readers.labelme import LabelmeMask
from unip.data.labelled.readers.yolo import YoloMask
from unip.data.manifests.facts import facts_of, read_facts
from unip.data.manifests.listing import list_entries
from unip.data.manifests.manifest import read_manifest
from unip.data.manifests.packed import open_packed
from unip.data.manifests.recipe import SourceConfig, read_recipe
from unip.data.manifests.shards import read_note
from unip.data.splitting import read_groups
from unip.deployment.verbs import predict
from unip.errors import UnipError
from unip.files import read_json, read_lines, read_yaml, sha256
from unip.opening import NotRegularError, check_regular, open_regular, read_regular, read_regular_text
from unip.outputs import OutputFolder
from unip.segmentation.model import Segmenter, SegmenterSpec
from unip.segmentation.storage import load_segmenter, save_segmenter
from unip.suites.records import FRAMES, CellRecord
from unip.suites.results import DoneCell
from unip.suites.suite import read_suite
from unip.training.checkpoint import load_checkpoint
from unip.training.run_folder import RunFolder
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.vit.spec import build_backbone
from unip.vit.weights import read_checkpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")

SECONDS = 20  # in which a door that reads on is taken for one that hangs
BYTES = 2**31  # that a door may take before it is taken for one that reads without end
VIT = BackboneSpec(arguments={"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2})


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS = {"pipe": pipe, "link to /dev/zero": zeros}
Put = Callable[[Path], Path]


@pytest.fixture(params=KINDS)
def put(request: pytest.FixtureRequest) -> Put:
    """Return a function that puts a pipe or a link to a device where a file should be."""

    def at(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        KINDS[request.param](path)
        return path

    return at


def answer(work: Callable[[], Any]) -> str:
    """Run ``work`` in a process of its own, which is stopped when it hangs or takes too much memory.

    Returns:
        The message it was refused with, or what it returned.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
        limit = pages * os.sysconf("SC_PAGE_SIZE") + BYTES
        if pages:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            sender.send(f"returned {work()}")
        except BaseException as error:
            sender.send(f"{type(error).__name__}: {error}")
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    try:
        return str(receiver.recv()) if receiver.poll(SECONDS) else "it hangs"
    finally:
        process.kill()
        process.join()


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(path)
    return path


def backbone(root: Path) -> Path:
    return save_backbone(
        build_backbone(VIT), VIT, root / "backbone", mean=(0.5,) * 3, std=(0.5,) * 3, input_size=32, info={}
    )


def segmenter(root: Path) -> Path:
    spec = SegmenterSpec(
        backbone=VIT,
        classes={"names": ("background", "hot")},
        decoder="linear",
        layers=(2,),
        channels=8,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    save_segmenter(Segmenter(spec), root / "segmenter")
    return root / "segmenter"


def checkpoint(folder: Path, put: Put) -> Any:
    write = folder / "state.json"
    folder.mkdir()
    write.write_text(json.dumps({"step": 1, "extra": {}, "best": None}))
    put(folder / "optimizer.safetensors")
    model = torch.nn.Linear(1, 1)
    return load_checkpoint(folder, model=model, optimizer=torch.optim.AdamW(model.parameters()))


def packed(root: Path, put: Put) -> Any:
    (root / "packed.json").write_text(json.dumps({"version": 1, "shards": [{"file": "0.parquet", "rows": 1}]}))
    put(root / "0.parquet")
    return open_packed(root)


def classes_json(root: Path, put: Put) -> Any:
    image(root / "images/0.png"), image(root / "masks/0.png")
    put(root / "classes.json")
    return open_segmentation(root)


def groups(root: Path, put: Put) -> Any:
    image(root / "images/0.png")
    source = SourceConfig(folder="images", groups=str(put(root / "groups.csv")))
    return list_entries(source, root, root / "store")


def predicted(root: Path, put: Put) -> Any:
    image(root / "images/0.png")
    put(root / "images/1.png")
    return predict(model=segmenter(root), images=(root / "images",), out=root / "out", device="cpu", workers=0)


def command(*words: str) -> str:
    """Run the command line; return what it complained about."""
    sys.argv = ["unip", *words]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        cli.main()
    return said.getvalue()


def done(folder: Path) -> DoneCell:
    return DoneCell(axes=None, folder=folder, record=CellRecord.model_construct(), corrupted={}, cost=None)  # type: ignore[arg-type]


# What reads a file, with a pipe or a device in its place: (folder, what puts it there) -> anything
DOORS: dict[str, Callable[[Path, Put], Any]] = {
    "bytes": lambda root, put: read_regular(put(root / "x")),
    "text": lambda root, put: read_regular_text(put(root / "x")),
    "check": lambda root, put: check_regular(put(root / "x")),
    "json": lambda root, put: read_json(put(root / "x.json")),
    "yaml": lambda root, put: read_yaml(put(root / "x.yaml")),
    "lines": lambda root, put: read_lines(put(root / "x.txt")),
    "hash": lambda root, put: sha256(put(root / "x")),
    "image": lambda root, put: read_image(put(root / "x.png")),
    "image for a model": lambda root, put: read_image8(put(root / "x.jpg")),
    "samples of a TIFF": lambda root, put: read_samples(put(root / "x.tif")),
    "one image file": lambda root, put: list_images(put(root / "x.png")),
    "image in a shard": lambda root, put: read_bytes(f"{put(root / 'x.parquet')}#4+10"),
    "image facts": lambda root, put: read_facts(str(put(root / "x.png"))).problem,
    "journal of facts": lambda root, put: [
        *facts_of([os.fsencode(put(root / "x.png"))], put(root / "journal"), workers=1)
    ],
    "temperatures": lambda root, put: read_temperature(put(root / "x.jpg")),
    "channel": lambda root, put: read_channel(put(root / "x.png"), 3),
    "mask": lambda root, put: MaskFile(put(root / "x.png")).read(),
    "colour mask": lambda root, put: ColourFile(put(root / "x.png"), (((0, 0, 0), 0),)).read(),
    "image of a YOLO mask": lambda root, put: YoloMask(root / "x.txt", put(root / "x.jpg"), ("a",), (1,)).read(),
    "text of a YOLO mask": lambda root, put: YoloMask(put(root / "x.txt"), image(root / "x.jpg"), ("a",), (1,)).read(),
    "LabelMe file": lambda root, put: LabelmeMask(put(root / "x.json"), image(root / "x.jpg"), (), 0).read(),
    "COCO file": lambda root, put: open_segmentation(f"coco:{put(root / 'x.json')}"),
    "classes.json": classes_json,
    "palette": lambda root, put: read_palette(put(root / "class_dict.csv")),
    "recipe": lambda root, put: read_recipe(put(root / "x.yaml")),
    "groups of a source": groups,
    "groups of a split": lambda root, put: read_groups(put(root / "x.csv"), "file", "group"),
    "manifest": lambda root, put: read_manifest(put(root / "x.parquet")),
    "packed set": packed,
    "checkpoint": lambda root, put: read_checkpoint(put(root / "x.pth")),
    "backbone file": lambda root, put: load_backbone(str(put(root / "x.safetensors"))),
    "backbone by name": lambda root, put: load_backbone(f"timm:vit_tiny_patch16_224@{put(root / 'x.safetensors')}"),
    "backbone folder": lambda root, put: load_backbone(str(put(backbone(root) / "model.safetensors").parent)),
    "segmenter": lambda root, put: load_segmenter(put(segmenter(root) / "model.safetensors").parent),
    "training checkpoint": lambda root, put: checkpoint(root / "step-00000001", put),
    "log of a run": lambda root, put: RunFolder(OutputFolder(put(root / "log.jsonl").parent)).read_log(),
    "matrices of a cell": lambda root, put: done(put(root / FRAMES).parent).frames(),
    "suite": lambda root, put: read_suite(put(root / "x.yaml")),
    "predict": predicted,
    "--config": lambda root, put: command("predict", "--config", str(put(root / "x.yaml"))),
    "data build of a recipe": lambda root, put: command(
        "data", "build", str(put(root / "x.yaml")), "--out", str(root / "out")
    ),
    "finetune": lambda root, put: command(
        *("finetune", "--model", str(backbone(root)), "--data", str(put(dataset(root) / "images/0.png").parents[1])),
        *("--split", "", "--out", str(root / "out"), "--device", "cpu"),
    ),
    "model of finetune": lambda root, put: command(
        *("finetune", "--model", str(put(root / "x.pth")), "--data", str(dataset(root))),
        *("--split", "", "--out", str(root / "out"), "--device", "cpu"),
    ),
    "evaluate": lambda root, put: command(
        *("evaluate", str(segmenter(root)), str(put(dataset(root) / "images/0.png").parents[1])),
        *("--split", "", "--out", str(root / "out"), "--device", "cpu"),
    ),
}


def dataset(root: Path) -> Path:
    image(root / "data/images/0.png")
    (root / "data/masks").mkdir()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(root / "data/masks/0.png")
    (root / "data/classes.json").write_text(json.dumps({"names": ["background", "hot"]}))
    return root / "data"


@pytest.mark.parametrize("door", DOORS)
def test_no_door_reads_a_pipe_or_a_device(tmp_path: Path, put: Put, door: str) -> None:
    assert "not a regular file" in " ".join(answer(lambda: DOORS[door](tmp_path, put)).split())


def test_a_video_that_is_none_is_one_entry_with_a_reason(tmp_path: Path, put: Put) -> None:
    pytest.importorskip("av")
    put(tmp_path / "videos/x.mp4")
    source = SourceConfig(video="videos", name="x", modality="infrared")
    found = answer(lambda: [entry.reason for entry in list_entries(source, tmp_path, tmp_path / "store").entries])
    assert found == "returned ['unreadable: video: not a regular file']"


def test_a_shard_that_is_none_is_no_shard_of_ours(tmp_path: Path, put: Put) -> None:
    path = put(tmp_path / "x.parquet")
    assert answer(lambda: read_note(path)) == "returned None"


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("x.png")
        with pytest.raises(UnipError, match=r"cannot read image x\.png: not a regular file"):
            read_image("x.png")


def test_regular_files_and_links_to_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_regular(tmp_path / "b") == read_regular(os.fsencode(tmp_path / "b")) == b"\xef\xbb\xbfone\r\ntwo"
    assert read_regular_text(tmp_path / "b", "utf-8-sig") == "one\ntwo"
    assert read_regular_text(tmp_path / "b", "utf-8-sig", newline="") == "one\r\ntwo"
    with open_regular(tmp_path / "b", buffering=0) as file:
        assert file.read(3) == b"\xef\xbb\xbf"
    check_regular(tmp_path / "b")


def test_errors_are_those_of_open(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        read_regular(tmp_path / "gone")
    with pytest.raises(IsADirectoryError, match="directory"):
        read_regular(tmp_path)


def test_no_descriptor_is_left_open(tmp_path: Path, put: Put) -> None:
    path = put(tmp_path / "x")

    def refused() -> int:
        for _ in range(100):
            with contextlib.suppress(NotRegularError):
                check_regular(path)
        return len(os.listdir("/dev/fd"))

    assert refused() == refused()


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_nothing_else_opens_files_for_reading() -> None:
    """Whoever opens a file by its path in another way, opens a pipe too."""
    source = Path(unip.__file__).parent
    own = {"opening.py", "runtime/memory.py"}  # the door itself; files of the system
    found = []
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source).as_posix()
        if name in own:
            continue
        for function, call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            values = [ast.unparse(value) for value in call.args]
            opener = any(word.arg == "opener" for word in call.keywords)
            package = function.startswith("files(")  # what is installed with this package
            writes = any(value in ("'wb'", "'w'", "'a'", "'rb+'") for value in values)
            if function.endswith((".read_text", ".read_bytes")) and not package:
                found.append(f"{name}: {function}")
            elif (function == "open" or (function.endswith(".open") and "'rb'" in values)) and not (opener or writes):
                found.append(f"{name}: {function}")
            elif function in ("pq.read_table", "pq.read_metadata", "pq.ParquetFile", "np.load", "torch.load"):
                if values[0] not in ("file", "opened", "stream", "temporary"):
                    found.append(f"{name}: {function}({values[0]})")
    assert found == []


def test_manifests_are_read_from_open_files(tmp_path: Path) -> None:
    image(tmp_path / "x.png")
    pq.write_table(pa.table({"path": [b"x.png"]}), tmp_path / "x.parquet")
    with pytest.raises(UnipError, match="is not a manifest: no column"):
        read_manifest(tmp_path / "x.parquet")
    (tmp_path / "y.parquet").write_bytes(b"PAR1")
    with pytest.raises(UnipError, match="is not a Parquet file that can be read"):
        read_manifest(tmp_path / "y.parquet")
