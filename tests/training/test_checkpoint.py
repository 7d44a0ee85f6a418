"""Checkpoints that are no longer what was written: noticed, told, set aside, and never continued from."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
import torch

from tests.training.test_loop import Model, by_a_weight, config_for, run
from unip.errors import UnipError
from unip.files import sha256
from unip.outputs import OutputFolder, output_folder, write_text
from unip.training import checksums
from unip.training.checkpoint import load_checkpoint, newest_whole, save_checkpoint
from unip.training.checksums import DamagedCheckpoint, read_state, verify
from unip.training.optim import parameter_groups
from unip.training.run_folder import RunFolder, list_checkpoints, list_damaged
from unip.written import HIDDEN

FILES = ("model.safetensors", "optimizer.safetensors", "ema.safetensors", "best.safetensors", "state.json")
SETTINGS = {"ema": 0.8}


def flip(path, at=None, bit=0):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1 << bit
    path.write_bytes(data)


DAMAGES = {
    "bit": flip,
    "last bit": lambda path: flip(path, -1, 7),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "missing": lambda path: path.unlink(),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps with checkpoints of the steps 9 and 12, its losses and its best weights."""
    path = tmp_path_factory.mktemp("whole") / "run"
    _, losses, weights = run(config_for(path, **SETTINGS), judge=by_a_weight)
    return path, losses, weights


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    return tmp_path / "run"


def found(path):
    with output_folder(path):
        return newest_whole(path / "checkpoints")


def go_on(path, **values):
    return run(config_for(path, **{**SETTINGS, **values}), judge=by_a_weight)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_checksums_are_those_of_the_files(whole):
    newest = list_checkpoints(whole[0] / "checkpoints")[-1]
    assert {path.name for path in newest.iterdir()} == set(FILES)
    recorded = read_state(newest)["files"]
    assert recorded.keys() == set(FILES) - {"state.json"}
    for name, found in recorded.items():
        assert found == {"size": (newest / name).stat().st_size, "sha256": sha256(newest / name)}
    verify(newest)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_training_continues_from_the_newest_whole_checkpoint(whole, copy, capsys, file, damage):
    _, losses, weights = whole
    folder = copy / "checkpoints"
    DAMAGES[damage](folder / "step-00000012" / file)
    before = contents(folder / "step-00000012")
    _, again, same = go_on(copy)
    assert again == losses
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    (told,) = (line for line in capsys.readouterr().out.splitlines() if "step-" in line)
    assert f"checkpoint {folder / 'step-00000012'} is damaged: {file} " in told
    assert told.endswith(f"; it is kept as damaged-step-00000012; continuing from {folder / 'step-00000009'}, step 9")
    assert contents(folder / "damaged-step-00000012") == before
    assert [path.name for path in list_checkpoints(folder)] == ["step-00000009", "step-00000012"]
    go_on(copy)
    assert capsys.readouterr().out == f"continuing from {folder / 'step-00000012'}\n"


def test_a_changed_bit_anywhere_is_noticed(copy):
    """In state.json some bits mean nothing: 1e-05 and 1E-05 are one number."""
    newest = copy / "checkpoints" / "step-00000012"
    written, same = read_state(newest), 0
    for name in ("state.json", "model.safetensors"):
        good = (newest / name).read_bytes()
        for at in range(0, len(good), 5):  # all of them take seconds
            for bit in (0, 5) if name == "state.json" else (at % 8,):  # 5: large and small letters
                flip(newest / name, at, bit)
                try:
                    verify(newest)
                except DamagedCheckpoint:
                    pass
                else:
                    same += 1
                    assert name == "state.json" and read_state(newest) == written
                (newest / name).write_bytes(good)
    assert same < 10


def test_several_damaged_ones_are_one_message(copy, capsys, whole):
    folder = copy / "checkpoints"
    shutil.copytree(folder / "step-00000012", folder / "step-00000011")
    flip(folder / "step-00000012" / "model.safetensors")
    (folder / "step-00000011" / "state.json").unlink()
    assert go_on(copy)[1] == whole[1]
    (told,) = (line for line in capsys.readouterr().out.splitlines() if "step-" in line)
    assert "state.json is missing; it is kept as damaged-step-00000011" in told
    assert "model.safetensors has other bytes than were written" in told and told.endswith("step 9")
    assert [path.name for path in list_damaged(folder)] == ["damaged-step-00000011", "damaged-step-00000012"]


def test_damaged_again_and_never_deleted(copy):
    folder = copy / "checkpoints"
    for _ in range(3):
        flip(folder / "step-00000012" / "model.safetensors")
        go_on(copy, keep_checkpoints=2)
    names = [f"damaged-step-00000012{end}" for end in ("", "-2", "-3")]
    assert [path.name for path in list_damaged(folder)] == names
    assert all((folder / name / file).is_file() for name in names for file in FILES)
    assert len(list_checkpoints(folder)) == 2


def test_without_a_whole_one_training_is_refused_each_time(copy):
    folder = copy / "checkpoints"
    flip(folder / "step-00000012" / "best.safetensors")
    (folder / "step-00000009" / "state.json").unlink()
    before = contents(copy)
    for _ in range(2):
        with pytest.raises(UnipError, match="no whole checkpoint is left") as caught:
            go_on(copy)
        assert caught.value.exit_code == 2 and "--overwrite" in caught.value.fix
        assert "step-00000012 is damaged: best.safetensors" in caught.value.what
        assert "step-00000009 is damaged: state.json is missing" in caught.value.what
        left = contents(copy)
        assert {name: left[name] for name in before if "checkpoints" in name or name == "log.jsonl"} == {
            name: data for name, data in before.items() if "checkpoints" in name or name == "log.jsonl"
        }
    assert go_on(copy, overwrite=True)[0].steps == 12
    assert list_damaged(folder) == []


def test_only_one_that_was_set_aside_is_left(copy):
    folder = copy / "checkpoints"
    flip(folder / "step-00000012" / "model.safetensors")
    found(copy)
    shutil.rmtree(folder / "step-00000009")
    assert RunFolder(OutputFolder(copy)).continues(config_for(copy, **SETTINGS))
    with pytest.raises(UnipError, match=r"damaged-step-00000012 was found damaged before"):
        go_on(copy)
    assert (folder / "damaged-step-00000012" / "model.safetensors").is_file()


def test_a_whole_checkpoint_of_another_model_is_refused(copy):
    class Wide(Model):
        def __init__(self):
            super().__init__()
            self.net[0], self.net[3] = torch.nn.Linear(2, 9), torch.nn.Linear(9, 1)

    model = Wide()
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=0.05, weight_decay=0.01))
    before = contents(copy)
    path = found(copy).path
    with pytest.raises(UnipError, match=rf"cannot continue from {path}: .*size mismatch for 0\.weight") as caught:
        load_checkpoint(path, model=model.net, optimizer=optimizer)
    assert not isinstance(caught.value, DamagedCheckpoint) and "--overwrite" in caught.value.fix
    assert contents(copy) == before


def test_a_whole_checkpoint_without_an_average_that_is_wanted(tmp_path):
    run(config_for(tmp_path, steps=3))
    with output_folder(tmp_path):
        write_text(tmp_path / "config.yaml", config_for(tmp_path, steps=3, ema=0.9).to_yaml())
    with pytest.raises(UnipError, match=rf"cannot continue from {tmp_path}.*ema\.safetensors"):
        run(config_for(tmp_path, steps=3, ema=0.9))
    assert list_damaged(tmp_path / "checkpoints") == []


def test_loading_looks_at_the_checksums_first(copy):
    path = copy / "checkpoints" / "step-00000012"
    flip(path / "optimizer.safetensors", -1)
    model = Model()
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=0.05, weight_decay=0.01))
    with pytest.raises(DamagedCheckpoint, match=r"optimizer\.safetensors has other bytes"):
        load_checkpoint(path, model=model.net, optimizer=optimizer)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.net.state_dict().items())


@pytest.mark.parametrize(("number", "damaged"), [(errno.EIO, True), (errno.EACCES, False), (errno.EMFILE, False)])
def test_a_file_that_cannot_be_read_now_is_not_damaged(copy, monkeypatch, number, damaged):
    def fails(path):
        if path.parent.name == "step-00000012":
            raise OSError(number, os.strerror(number), str(path))
        return sha256(path)

    monkeypatch.setattr(checksums, "sha256", fails)
    if damaged:
        assert found(copy).path.name == "step-00000009"
    else:
        with pytest.raises(UnipError, match=rf"cannot read .*step-00000012.*{os.strerror(number)}"):
            found(copy)
    assert bool(list_damaged(copy / "checkpoints")) == damaged


def test_a_damaged_one_that_cannot_be_renamed_is_told(copy, monkeypatch):
    def fails(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    flip(copy / "checkpoints" / "step-00000012" / "model.safetensors")
    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(UnipError, match=r"cannot rename .*step-00000012, which is damaged: Read-only"):
        found(copy)


def test_a_checkpoint_from_before_checksums_is_continued_from(copy, whole):
    path = copy / "checkpoints" / "step-00000009"
    shutil.rmtree(copy / "checkpoints" / "step-00000012")
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({key: state[key] for key in ("step", "extra", "best")}))
    assert go_on(copy)[1] == whole[1]
    assert list_damaged(copy / "checkpoints") == []


@pytest.mark.parametrize("text", ["[]", "{}", '{"step": 12}', "7", '{"step": 12, "extra": {}, "files": {}}', "\xff"])
def test_a_state_without_its_values(copy, text):
    path = copy / "checkpoints" / "step-00000012"
    (path / "state.json").write_bytes(text.encode("latin1"))
    with pytest.raises(DamagedCheckpoint, match=r"state\.json"):
        verify(path)


def test_one_that_a_kill_leaves_half_deleted_is_not_called_damaged(copy, monkeypatch):
    folder = copy / "checkpoints"

    rmtree = shutil.rmtree

    def killed(path, **options):
        if not list(path.rglob("model.safetensors")):
            return rmtree(path, **options)
        next(path.rglob("model.safetensors")).unlink()
        raise SystemError

    with monkeypatch.context() as patch, pytest.raises(SystemError), output_folder(copy):
        patch.setattr(shutil, "rmtree", killed)
        optimizer = torch.optim.AdamW(Model().parameters())
        save_checkpoint(folder, step=15, model=Model().net, optimizer=optimizer, extra={}, keep=2)
    assert [path.name for path in list_checkpoints(folder)] == [f"step-000000{n}" for n in (12, 15)]
    for path in list_checkpoints(folder):
        verify(path)
    with output_folder(copy):
        assert not (copy / HIDDEN / "tmp").exists()


def test_other_names_are_no_checkpoints(copy):
    folder = copy / "checkpoints"
    for name in ("step-00000012.bak", "step-", "step-x", "step-00000010 (copy)"):
        shutil.copytree(folder / "step-00000012", folder / name)
    (folder / "step-00000013").write_text("a file")
    assert [path.name for path in list_checkpoints(folder)] == ["step-00000009", "step-00000012"]
    (folder / "step-100000000").mkdir()  # nine digits: a later step, though earlier in the alphabet
    assert list_checkpoints(folder)[-1].name == "step-100000000"
