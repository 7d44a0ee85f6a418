"""Files of weights, and what they describe, never take more memory than their bytes explain."""

from __future__ import annotations

import argparse
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.test_opening import answer
from unip.errors import UnipError
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.vit.normalisation import Preprocessing
from unip.vit.size import SPARE_BYTES, check_archive
from unip.vit.spec import build_backbone
from unip.vit.weights import read_checkpoint

TINY = BackboneSpec(arguments={"img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2})


def state() -> dict[str, torch.Tensor]:
    return build_backbone(TINY).state_dict()


def repeated(file: Path) -> None:
    torch.save(state() | {"head.weight": torch.zeros(1).expand(3 * 10**9)}, file)


def repeated_in_part(file: Path) -> None:
    torch.save(state() | {"head.weight": torch.zeros(1, 1000).expand(10**7, 1000)}, file)


def overlapping(file: Path) -> None:
    numbers = torch.zeros(2**20)
    windows = {f"head.{i}": numbers[i : i + 2**19] for i in range(2000)}
    torch.save(state() | windows, file)


def without_numbers(file: Path) -> None:
    torch.save(state() | {"head.weight": torch.zeros(10**10, device="meta")}, file)


def packed_zeros(file: Path) -> None:
    buffer = io.BytesIO()
    torch.save(state() | {"head.weight": torch.zeros(2**24)}, buffer)  # 64 MB
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))


def one_entry_many_times(file: Path) -> None:
    """The entries of the archive's directory lie over each other."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data/0", b"0" * 2**20)
        for _ in range(3000):
            archive.filelist.append(archive.filelist[0])
    file.write_bytes(buffer.getvalue())


def holds_itself(file: Path) -> None:
    loop: dict[str, Any] = {"weight": torch.zeros(1)}
    loop["model"] = loop
    torch.save(loop, file)


def holds_itself_by_two(file: Path) -> None:
    outer: dict[str, Any] = {}
    outer["model"] = {"state_dict": outer}
    torch.save(outer, file)


def deep(file: Path) -> None:
    inner: dict[str, Any] = state()
    for _ in range(5000):
        inner = {"model": inner}
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(50000)
    try:
        torch.save(inner, file)
    finally:
        sys.setrecursionlimit(before)


def claims_a_storage(file: Path) -> None:
    """As torch saved before 1.6: the storage's number of elements stands before its bytes."""
    buffer = io.BytesIO()
    torch.save({"patch_embed.proj.weight": torch.zeros(1000)}, buffer, _use_new_zipfile_serialization=False)
    file.write_bytes(buffer.getvalue().replace(b"M\xe8\x03", b"J\xff\xff\xff\x7f"))


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "stride 0": (repeated, "fewer numbers"),
    "stride 0 in one dimension": (repeated_in_part, "fewer numbers"),
    "tensors over each other": (overlapping, "would take .* in memory"),
    "tensors without numbers": (without_numbers, "fewer numbers"),
    "packed zeros": (packed_zeros, "would take .* in memory"),
    "entries over each other": (one_entry_many_times, "would take .* in memory"),
    "holds itself": (holds_itself, "nested more than"),
    "holds itself by two": (holds_itself_by_two, "holds no tensors by name|nested more than"),
    "deep": (deep, "nested more than|truncated or not a checkpoint"),
    "a storage that is not there": (claims_a_storage, "truncated or not a checkpoint"),
}


@pytest.mark.parametrize("kind", BAD)
def test_files_that_would_fill_the_memory(tmp_path: Path, kind: str) -> None:
    make, message = BAD[kind]
    make(tmp_path / "x.pth")
    told = answer(lambda: read_checkpoint(tmp_path / "x.pth"))
    assert told.startswith("UnipError: ")
    with pytest.raises(UnipError, match=message):
        raise UnipError(told)


def test_what_is_saved_in_earnest_is_read(tmp_path: Path) -> None:
    whole = state()
    half = {name: value.half() for name, value in whole.items()}
    tied = whole | {"head.weight": whole["norm.weight"], "head_dist.weight": whole["norm.weight"]}
    turned = {name: value.t().contiguous().t() if value.ndim == 2 else value for name, value in whole.items()}
    wrapped = {"model": whole, "args": argparse.Namespace(lr=1.0), "epoch": 3}
    for number, content in enumerate((whole, half, tied, turned, wrapped)):
        for new in (True, False):
            torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
            assert read_checkpoint(tmp_path / "x.pth").state.keys() >= whole.keys(), (number, new)


def test_the_budget_of_an_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", b"0" * (SPARE_BYTES - 1))
    check_archive(buffer, tmp_path)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("y", b"0" * SPARE_BYTES)
    with pytest.raises(UnipError, match=f"would take {2 * SPARE_BYTES - 1} in memory"):
        check_archive(buffer, tmp_path)


@pytest.mark.parametrize(
    "spec",
    [
        {"timm_name": "vit_7b_patch16_dinov3"},
        {"timm_name": "vit_giant_patch14_dinov2"},
        {"arguments": {"embed_dim": 8192, "depth": 20, "num_heads": 64}},
        {"arguments": {"img_size": 16384, "patch_size": 4, "embed_dim": 768}},
        {"arguments": {"depth": 1_000_000}},
        {"arguments": {"embed_dim": 1_000_000}},
    ],
    ids=str,
)
def test_a_description_of_a_large_model_beside_small_weights(tmp_path: Path, spec: dict[str, Any]) -> None:
    folder = tmp_path / "x"
    save_backbone(build_backbone(TINY), TINY, folder, mean=(0.5,) * 3, std=(0.5,) * 3, input_size=32, info={})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "spec": spec}))
    told = answer(lambda: load_backbone(str(folder)))
    assert told.startswith("UnipError: ") and any(
        text in told for text in ("is too small for what it is described as", "cannot be", "would have about")
    )
    save_file(state(), tmp_path / "x.safetensors", metadata={"unip": json.dumps({"spec": spec})})
    assert answer(lambda: load_backbone(str(tmp_path / "x.safetensors"))).startswith("UnipError: ")


BAD_PIXELS: list[dict[str, Any]] = [
    {"std": [0, 1, 1]},
    {"std": [-1, 1, 1]},
    {"std": [float("inf"), 1, 1]},
    {"mean": [float("nan"), 0, 0]},
    {"mean": [0, 0]},
    {"mean": "none"},
    {"mean": 0.5},
    {"mean": ["a", "b", "c"]},
    {"input_size": 10**9},
    {"input_size": -1},
    {"input_size": [3]},
    {"input_size": "big"},
    {"input_size": float("inf")},
]


@pytest.mark.parametrize("values", BAD_PIXELS, ids=str)
def test_normalisation_that_cannot_be(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(UnipError, match=r"normalised|resized|is none"):
        Preprocessing().updated(values)
    folder = tmp_path / "x"
    save_backbone(build_backbone(TINY), TINY, folder, mean=(0.5,) * 3, std=(0.5,) * 3, input_size=32, info={})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    with pytest.raises(UnipError):
        load_backbone(str(folder))


def test_pickles_of_other_objects_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(pickle.dumps(bytearray(100)))
    with pytest.raises(UnipError):
        read_checkpoint(tmp_path / "x.pth")
