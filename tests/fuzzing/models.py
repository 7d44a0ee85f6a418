"""Model folders and checkpoints of other programs."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_safetensors

from tests.fuzzing.checking import Reader
from tests.fuzzing.labelled import picture
from tests.fuzzing.mutations import WRONG, Change, change_json, change_tensors
from unip.segmentation.model import Segmenter, SegmenterSpec
from unip.segmentation.storage import load_segmenter, save_segmenter
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.vit.spec import build_backbone
from unip.zoo.verbs import read_folder

VIT = BackboneSpec(arguments={"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2})
# Of 64 channels a head, from which the number of heads of a plain checkpoint is told
PLAIN = BackboneSpec(arguments={"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1})


def make_backbone(folder: Path, changed: str) -> Path:
    torch.manual_seed(0)
    save_backbone(
        build_backbone(VIT), VIT, folder / "model", mean=(0.5,) * 3, std=(0.5,) * 3, input_size=32, info={"a": 1}
    )
    return folder / "model" / changed


def make_segmenter(folder: Path, changed: str) -> Path:
    torch.manual_seed(0)
    spec = SegmenterSpec(
        backbone=VIT,
        classes={"names": ("background", "hot")},
        decoder="linear",
        layers=(2,),
        channels=8,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        short_side=32,
        crop=32,
        stride=16,
    )
    save_segmenter(Segmenter(spec), folder / "model", info={"labelled_images": 3})
    picture(folder / "images/a.png")
    return folder / "model" / changed


def plain_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(build_backbone(PLAIN).state_dict())


def make_torch(folder: Path, wrapped: bool, old: bool = False) -> Path:
    state: Any = plain_state()
    if wrapped:
        state = {"model": state, "epoch": 3, "args": {"lr": 0.1}}
    torch.save(state, folder / "x.pth", _use_new_zipfile_serialization=not old)
    return folder / "x.pth"


def make_plain_safetensors(folder: Path) -> Path:
    (folder / "x.safetensors").write_bytes(save_safetensors(plain_state()))
    return folder / "x.safetensors"


def change_torch(data: bytes, random: Random) -> bytes:
    """Change tensors and names of a checkpoint of torch, and what is around them."""
    found = torch.load(io.BytesIO(data), weights_only=True)
    state = found.get("model", found)
    for _ in range(random.randint(1, 2)):
        name = random.choice(list(state))
        action = random.randrange(7)
        if action == 0:
            del state[name]
        elif action == 1:
            state[random.choice(["", "x", "head.weight", f"module.{name}", "blocks.99.norm1.weight"])] = state.pop(name)
        elif action == 2:
            state[name] = copy.deepcopy(random.choice(WRONG))
        elif action == 3 and isinstance(state[name], torch.Tensor):
            state[name] = random.choice(_TENSORS)(state[name], random)
        elif action == 4:
            state[random.choice([3, None, (1, 2), "model", "state_dict"])] = random.choice((state[name], {}, "x"))
        elif action == 5:
            found = random.choice(({"state_dict": found}, {"a": [found]}, [found], found, {"model": {"model": state}}))
        else:
            state[random.choice(["itself", "model", "teacher"])] = state  # a dict that holds itself
    out = io.BytesIO()
    try:
        torch.save(found, out)
    except (RecursionError, TypeError, ValueError, RuntimeError, OverflowError):
        return data[: random.randrange(len(data))]
    return out.getvalue()


def _with_nan(tensor: torch.Tensor, random: Random) -> Any:
    tensor = tensor.clone().float()
    tensor.view(-1)[0] = random.choice((float("nan"), float("inf"), 1e38))
    return tensor


_TENSORS = (
    _with_nan,
    lambda t, r: torch.zeros(1).expand(r.choice((10, 3_000_000_000))),  # of stride 0: few bytes, a large tensor
    lambda t, r: t.reshape(-1)[: r.randrange(t.numel() + 1)],
    lambda t, r: t[None],
    lambda t, r: t.to(r.choice((torch.int8, torch.bool, torch.complex64, torch.float16, torch.float64))),
    lambda t, r: t.to_sparse(),
    lambda t, r: torch.zeros(0, *t.shape),
    lambda t, r: t.repeat(2, *[1] * (t.ndim - 1)) if t.ndim else t,
    lambda t, r: torch.empty(t.shape, device="meta"),
)


def load(path: Path) -> Any:
    return load_backbone(str(path))


def check_backbone(path: Path, value: Any) -> None:
    """See that its weights are finite, and those of the file."""
    state = value.model.state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    if path.suffix == ".pth":
        found = torch.load(path, weights_only=True)
        while isinstance(found, dict) and "cls_token" not in found and isinstance(found.get("model"), dict):
            found = found["model"]
        if isinstance(found, dict) and isinstance(found.get("cls_token"), torch.Tensor):
            np.testing.assert_array_equal(found["cls_token"].float(), state["cls_token"])


def check_segmenter(path: Path, value: Any) -> None:
    record = json.loads((path.parent / "config.json").read_bytes().decode("utf-8-sig"))
    assert list(value.spec.classes.names) == record["spec"]["classes"]["names"]
    if "short_side" in record["spec"]:
        assert value.spec.short_side == int(record["spec"]["short_side"])
    with torch.no_grad():
        assert value(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, len(value.spec.classes.names), 32, 32)


def read_described(path: Path) -> Any:
    read_folder(path.parent)
    return load(path.parent)


def predicts(path: Path) -> list[str]:
    images, out = path.parents[1] / "images", path.parents[1] / "out"
    return ["predict", str(path.parent), str(images), "--out", str(out), "--device", "cpu", "--overwrite"]


def folder_reader(changed: str, change: Change) -> dict[str, Reader]:
    return {
        f"backbone {changed}": Reader(
            lambda folder: make_backbone(folder, changed),
            read_described,
            change,
            command=lambda path: ["models", str(path.parent)],
        ),
        f"segmenter {changed}": Reader(
            lambda folder: make_segmenter(folder, changed),
            lambda path: load_segmenter(path.parent),
            change,
            check_segmenter,
            predicts,
        ),
    }


READERS = {
    **folder_reader("config.json", change_json),
    **folder_reader("model.safetensors", change_tensors),
    "checkpoint .safetensors": Reader(make_plain_safetensors, load, change_tensors, check_backbone),
    "checkpoint .pth": Reader(lambda folder: make_torch(folder, False), load, change_torch, check_backbone),
    "checkpoint .pth, wrapped": Reader(lambda folder: make_torch(folder, True), load, change_torch, check_backbone),
    "checkpoint .pth, old format": Reader(lambda folder: make_torch(folder, True, old=True), load, change_torch),
}
