from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from unip.errors import UnipError
from unip.files import read_json, refuse_unwritable, sha256, write_tensors


def test_an_output_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path, monkeypatch):
    refuse_unwritable(tmp_path)
    refuse_unwritable(tmp_path / "new" / "folder")
    monkeypatch.chdir(tmp_path)
    refuse_unwritable(Path("new/folder"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UnipError, match=r"cannot write to .* is a file") as caught:
            refuse_unwritable(path)
        assert str(path) in caught.value.what and caught.value.fix == "Choose another output folder."
    with pytest.raises(UnipError, match=r"cannot write to .*: File name too long"):
        refuse_unwritable(tmp_path / ("long" * 100))

    (tmp_path / "link").symlink_to("nowhere")
    for path in (tmp_path / "link", tmp_path / "link/below", Path("link")):
        with pytest.raises(UnipError, match=r"cannot write to .*link is a link to nowhere, which is not there"):
            refuse_unwritable(path)

    def read_only(dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(UnipError, match="Read-only file system") as caught:
        refuse_unwritable(tmp_path)
    assert caught.value.fix == "Choose another output folder."


def test_reading(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(UnipError, match=r"a.json is not valid JSON"):
        read_json(path)
    with pytest.raises(UnipError, match="cannot read"):
        read_json(tmp_path / "none.json")
    path.write_text(json.dumps([1]))
    assert sha256(path) == hashlib.sha256(b"[1]").hexdigest()


METADATA = {
    "unip": json.dumps({"mean": [0.1], "name": 'Straße "A"\n\x01\u2028\U0001f600'}),
    "last_heads": "16",
    "": "\\",
}
WRITE_TENSORS = """
import json, sys
from pathlib import Path
import torch
from unip.files import write_tensors
tensors = {f"blocks.{i}.weight": torch.arange(i, dtype=torch.float32) for i in (10, 3, 0)} | {"count": torch.tensor(7)}
metadata = json.loads(sys.argv[2])
for i in range(4):
    write_tensors(Path(sys.argv[1]) / f"{sys.argv[3]}-{i}.safetensors", tensors, metadata)
"""


def test_equal_tensors_make_equal_bytes_in_every_process(tmp_path):
    """safetensors keeps metadata in a hash map with another order in each process, and in each file of a process."""
    more = {f"key {i}": f"value {i}" for i in range(20)}
    for seed in ("0", "1", "77"):
        command = [sys.executable, "-c", WRITE_TENSORS, str(tmp_path), json.dumps(METADATA | more), seed]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, timeout=120, check=True)
    files = list(tmp_path.iterdir())
    assert len(files) == 12
    assert len({path.read_bytes() for path in files}) == 1
    with safe_open(files[0], framework="pt") as archive:
        assert archive.metadata() == {"format": "pt", **METADATA, **more}
    tensors = load_file(files[0])
    assert tensors.keys() == {"blocks.0.weight", "blocks.3.weight", "blocks.10.weight", "count"}
    assert tensors["blocks.10.weight"].tolist() == list(range(10)) and tensors["count"].item() == 7


@pytest.mark.parametrize("count", range(16))
def test_the_checksum_of_written_tensors_and_where_they_begin(tmp_path, count):
    path = tmp_path / "a.safetensors"
    wanted = {"weight": torch.rand(3, 5).T, "half": torch.ones(3, dtype=torch.float16), "none": torch.zeros(0, 4)}
    written = write_tensors(path, wanted, {"note": "ü" * count})
    assert (written.size, written.sha256) == (path.stat().st_size, sha256(path))
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0
    found = load_file(path)
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    with safe_open(path, framework="pt") as archive:
        assert archive.metadata() == {"format": "pt", "note": "ü" * count}
