from __future__ import annotations

import errno
import threading

import numpy as np
import pytest

from unip.outputs import OutputFolder, output_folder
from unip.training.run_folder import RunFolder
from unip.training.tensorboard import TensorBoard

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_numbers_and_pictures_are_written_and_listed(tmp_path):
    with output_folder(tmp_path / "run") as outputs:
        board = TensorBoard(RunFolder(outputs))
        board.scalars({"loss": 0.5}, 3)
        board.picture(np.zeros((4, 4, 3), np.uint8), 3)
        board.close()
    found = events.EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(3, 0.5)]
    assert [event.step for event in found.Images("picture")] == [3]
    folder = OutputFolder(tmp_path / "run")
    assert [folder.state(name) for name in folder.files("tensorboard")] == ["ours"]


def test_what_its_thread_cannot_write_is_one_line(tmp_path, monkeypatch, capfd):
    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    hook = threading.excepthook
    monkeypatch.setattr("tensorboard.compat.tensorflow_stub.io.gfile.LocalFileSystem._write", full)
    with output_folder(tmp_path / "run") as outputs:
        board = TensorBoard(RunFolder(outputs))
        board.scalars({"loss": 0.5}, 1)
        board.close()
    said = "".join(capfd.readouterr())
    assert said.count("is written no further (No space left on device)") == 1 and "Traceback" not in said
    assert threading.excepthook is hook


@pytest.mark.parametrize("call", ["__init__", "add_scalar", "add_image", "close"])
def test_a_full_disk_ends_the_log_and_not_the_run(tmp_path, monkeypatch, capsys, call):
    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"torch.utils.tensorboard.SummaryWriter.{call}", full)
    with output_folder(tmp_path / "run") as outputs:
        board = TensorBoard(RunFolder(outputs))
        for step in range(3):
            board.scalars({"loss": 0.5, "lr": 1.0}, step)
            board.picture(np.zeros((4, 4, 3), np.uint8), step)
        board.close()
    said = capsys.readouterr().out
    assert said.count("is written no further (No space left on device)") == 1
