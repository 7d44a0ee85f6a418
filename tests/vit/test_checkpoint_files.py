"""Which files are checkpoints: parts of a sharded one are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unip.errors import UnipError
from unip.vit.checkpoint_files import check_checkpoint


def save(folder: Path, name: str, *parts: str) -> Path:
    """Write a file of weights, and beside it an index that lists parts."""
    save_file({"norm.weight": torch.zeros(4)}, folder / name)
    weight_map = {f"blocks.{i}.norm1.weight": part for i, part in enumerate(parts)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "broken.index.json").write_text("{")
    return folder / name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model-00001-of-00002.safetensors", "is part 1 of 2 of a sharded checkpoint"),
        ("first.safetensors", r"one part of a sharded checkpoint: model\.safetensors\.index\.json lists 2 parts"),
        ("model.bin.index.json", "is the index of a sharded checkpoint and holds no weights"),
    ],
)
def test_one_part_of_a_sharded_checkpoint(tmp_path: Path, name: str, message: str) -> None:
    file = save(tmp_path, name, "first.safetensors", "second.safetensors")
    with pytest.raises(UnipError, match=rf"{message}\nLoad the tensors of all parts into one dictionary"):
        check_checkpoint(file)


@pytest.mark.parametrize("name", ["model-00001-of-00001.safetensors", "whole.safetensors"])
def test_a_whole_file_beside_an_index_of_others_is_read(tmp_path: Path, name: str) -> None:
    assert check_checkpoint(save(tmp_path, name, "first.safetensors", "second.safetensors"))
    assert check_checkpoint(save(tmp_path, name, name))  # all in one file
