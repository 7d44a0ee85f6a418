"""Whole suites in worker processes: every protocol, what is written, what is cached, what survives a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

import unip
from tests.forked import Forked, run_unip
from unip.errors import Interrupted, UnipError
from unip.files import read_json
from unip.outputs import OutputFolder, output_folder
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.evaluation import score_frames
from unip.suites import program, worker
from unip.suites.attempts import attempt
from unip.suites.cells import run_cell
from unip.suites.config import BenchConfig
from unip.suites.grid import BenchPlan
from unip.suites.pool import VisibleDevice, Worker, close_all, find_devices, run_queue
from unip.suites.records import CORRUPTED, FRAMES, RECORD, read_corrupted
from unip.suites.suite import Locations, read_suite
from unip.suites.tasks import CellTask, PretrainTask
from unip.suites.verbs import bench

STEPS = {
    **{"steps": 2, "batch_size": 2, "crop": 32, "base": [64, 32], "decoder": "light", "channels": 8, "lr": 1e-3},
    **{"compile": False, "workers": 0, "tensorboard": False},
}
PROBE = {key: value for key, value in STEPS.items() if key not in ("decoder", "channels")}
PRETRAIN = {
    **{"teacher": "{weights}/a", "teacher_layer": 2, "student": "unip_micro", "size": 32, "picture_every": 0},
    **{"data": "infrared={scenes}/train/images", "steps": 1, "batch_size": 2, "workers": 0, "tensorboard": False},
}
SUITE = {
    "title": "Everything",
    "pretrain": {"mini": PRETRAIN},
    "inits": {"a": "{weights}/a", "b": "{weights}/b", "student": "pretrain:mini", "gone": "/no/such/weights"},
    "datasets": {"scenes": {"data": "{scenes}", "val": "val", "group_by": "^(.)"}},
    "protocols": {
        "fine-tuned": {"settings": STEPS, "choose": {"lr": [1e-3, 1e-2]}, "label_budgets": [0.5]},
        "linear": {"kind": "linear_probe", "settings": {**PROBE, "eval_every": 1}},
        "layers": {"kind": "layer_probe", "settings": {"short_side": 32, "max_iterations": 20}},
        "knn": {"kind": "knn", "settings": {"short_side": 32, "k": 5}, "seeds": [0, 1]},
    },
    "seeds": [0],
    "baseline": "b",
    "speed_batch": 1,
    "corruptions": ["fog:1", "polarity"],
    "published": {"source": "someone", "miou": {"linear": {"a": 12.5}}},
}


def words(scenes: Path, weights: Path, out: Path, suite: Path) -> dict:
    return {"suite": suite, "data": (f"scenes={scenes}",), "weights": weights, "out": out, "device": "cpu"}


@pytest.fixture(scope="module")
def ran(scenes, weights, tmp_path_factory) -> dict:
    """Run the suite once; one start cannot be loaded."""
    root = tmp_path_factory.mktemp("ran")
    (root / "suite.yaml").write_text(yaml.safe_dump(SUITE))
    given = words(scenes, weights, root / "out", root / "suite.yaml")
    with pytest.raises(UnipError) as caught:
        bench(**given)
    return {**given, "error": caught.value}


@pytest.fixture
def forked_workers(monkeypatch):
    """Fork worker processes from this one; those of `ran` are started as users' are."""
    monkeypatch.setattr(Worker, "_start", lambda self: Forked(worker.main, self.device.visible))


def given(ran: dict, **changes) -> dict:
    return {**{key: value for key, value in ran.items() if key != "error"}, **changes}


def records(out: Path) -> dict[str, dict]:
    return {"_".join(map(str, r["axes"].values())): r for r in map(read_json, out.glob(f"cells/*/{RECORD}"))}


def test_a_cell_that_fails_is_reported_and_does_not_stop_the_others(ran):
    assert "5 of 21 jobs failed" in ran["error"].what
    assert "/no/such/weights" in ran["error"].what
    assert ran["error"].exit_code == 2
    assert len(records(ran["out"])) == 15
    log = next(ran["out"].glob("cells/gone_scenes_knn*/log.txt")).read_text()
    assert "/no/such/weights" in log
    assert "Traceback" not in log


def test_the_best_weights_are_chosen_on_val(ran):
    cells = [record.parent for record in ran["out"].glob(f"cells/*_linear_*/{RECORD}")]
    assert cells
    for cell in cells:
        config = FinetuneConfig.from_yaml(cell / "run/config.yaml")
        assert (config.val, config.eval_every) == ("val", 1)
        assert "val_miou" in (cell / "run/log.jsonl").read_text()


def test_what_is_written(ran):
    out = ran["out"]
    table = pq.read_table(out / "results.parquet").to_pylist()
    assert len(table) == 15 + 2 * 6  # six cells are trained, and have two corruptions
    assert {(row["corruption"], row["severity"]) for row in table} == {("none", 0), ("fog", 1), ("polarity", 3)}
    for row in table:
        assert 0 <= row["miou"] <= 1
        assert 0 < row["floor_miou"] < 1
        assert row["flops"] > 0
        assert row["parameters"] > 0
        assert row["images_per_second"] > 0
        assert (row["speed_batch"], row["speed_size"], row["device"]) == (1, 32, "cpu")
        assert json.loads(row["versions"])["torch"]
        assert row["images"] == 3
        assert len(row["iou"]) == len(row["classes"])
        assert (out / row["folder"] / RECORD).exists()
        assert row["labelled_images"] == (3 if row["protocol"] == "fine-tuned" else 6)
        with np.load(out / row["folder"] / FRAMES) as file:
            assert file["matrices"].sum(0).tolist() == read_json(out / row["folder"] / RECORD)["confusion_matrix"]
        if row["corruption"] != "none":
            scores = read_json(out / row["folder"] / CORRUPTED)[f"{row['corruption']}:{row['severity']}"]
            assert (scores["miou"], scores["pixels"]) == (row["miou"], 3 * 48 * 64)
    page = (out / "report.html").read_text()
    assert "15 of 20 cells; the others are not done" in page
    assert "data:image/png" in page
    assert "Starts of one method" not in page  # none names a method
    assert "| published |" in (out / "tables.md").read_text()
    assert "bootstrap of groups of test images that belong together (1)" in (out / "tables.md").read_text()
    rates = [records(out)[f"{name}_scenes_fine-tuned_0.5_0"]["chosen"]["lr"] for name in ("a", "b", "student")]
    assert "Chosen on val: a lr {} (seed 0); b lr {} (seed 0); student lr {} (seed 0).".format(*rates) in page
    assert "12.5" in (out / "tables.tex").read_text()
    assert not list(out.glob("cells/*/*/checkpoints"))


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        (
            {"label_budgets": [1.0, 7]},
            "7 labelled images of scenes are asked for, but train has 6",
            "a share up to 1.0",
        ),
        (
            {"datasets": {"scenes": {"data": "{scenes}/train", "train": "", "test": ""}}, "label_budgets": [7]},
            "7 labelled images of scenes are asked for, but ",
            "a share",
        ),
        (
            {"datasets": {"scenes": {"data": "{scenes}", "group_by": "zz(.)"}}},
            "matches no image's name of test",
            "Correct it",
        ),
        ({"pretrain": {"p": {**PRETRAIN, "stesp": 1}}, "inits": {"b": "pretrain:p"}}, "pretrain:p: unknown", "steps"),
        (
            {
                "pretrain": {"p": PRETRAIN},
                "inits": {"b": "pretrain:p"},
                "protocols": {"x": {"settings": STEPS}, "y": {"settings": {"stesp": 1}}},
            },
            "b_scenes_y_100pct_seed0: unknown setting 'stesp'",
            "steps",
        ),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(
    make_suite, scenes, weights, tmp_path, monkeypatch, change, what, fix
):
    monkeypatch.setattr(Worker, "_start", lambda self: pytest.fail("a process was started"))
    for dry_run in (True, False):
        with pytest.raises(UnipError) as caught:
            bench(**words(scenes, weights, tmp_path / "out", make_suite(**change)), dry_run=dry_run)
        assert what in caught.value.what and fix in caught.value.fix and not (tmp_path / "out").exists()


@pytest.mark.usefixtures("forked_workers")
def test_data_that_cannot_be_opened_stops_its_own_cells_alone(make_suite, scenes, weights, tmp_path):
    (tmp_path / "empty").mkdir()
    suite = make_suite(datasets={"empty": str(tmp_path / "empty"), "scenes": "{scenes}"}, inits={"b": "{weights}/b"})
    with pytest.raises(UnipError, match=r"1 of 2 jobs failed:\n  b_empty_fine-tuned_100pct_seed0: "):
        bench(**words(scenes, weights, tmp_path / "out", suite))
    assert list(records(tmp_path / "out")) == ["b_scenes_fine-tuned_1.0_0"]


def test_the_choice_is_made_on_val(ran):
    for name in ("a", "b", "student"):
        record = records(ran["out"])[f"{name}_scenes_fine-tuned_0.5_0"]
        best = int(np.argmax(record["choice_val_miou"]))
        assert record["run"] == f"choice-{best}"
        assert record["chosen"] == {"lr": [1e-3, 1e-2][best]}
        folder = next(ran["out"].glob(f"cells/{name}_scenes_fine-tuned*"))
        val = read_json(folder / f"choice-{best}/evaluation/val/metrics.json")
        assert val["miou"] == record["choice_val_miou"][best]
        assert [path.parent.name for path in folder.glob("*/model")] == [record["run"]]
    layers = records(ran["out"])["a_scenes_layers_1.0_0"]
    assert layers["miou"] == pytest.approx(layers["layers_miou"][layers["chosen"]["layer"] - 1])


def test_a_cell_is_what_the_verbs_do_by_hand(ran, tmp_path):
    cell = next(ran["out"].glob("cells/a_scenes_linear*"))
    unip.finetune(FinetuneConfig.from_yaml(cell / "run/config.yaml", out=tmp_path / "run"))
    data = next(iter(ran["data"])).partition("=")[2]
    by_hand = unip.evaluate(model=tmp_path / "run", data=data, device="cpu", window="slide")  # as the paper
    assert by_hand.scores.matrix.tolist() == read_json(cell / RECORD)["confusion_matrix"]


def test_data_sets_say_where_their_images_and_masks_are(make_suite, scenes, weights, tmp_path):
    plain = make_suite(inits={"a": "{weights}/a"}, baseline=None)
    moved = tmp_path / "moved"
    for split in ("train", "val", "test"):
        for kind, place in (("images", "pictures"), ("masks", "truth")):
            (moved / place / split).mkdir(parents=True)
            for file in (scenes / split / kind).iterdir():
                name = file.name if kind == "images" else f"{file.stem}-ids{file.suffix}"
                shutil.copy(file, moved / place / split / name)
    shutil.copy(scenes / "classes.json", moved)
    places = {"images": "pictures/{split}", "masks": "truth/{split}", "mask_suffix": "-ids"}
    first = key(plain, scenes, weights, tmp_path)
    protocols = {
        "fine-tuned": {"settings": STEPS, "choose": {"lr": [1e-3, 1e-2]}, "corruptions": ["fog:1"]},
        "layers": {"kind": "layer_probe", "settings": {"short_side": 32, "max_iterations": 5}},
    }
    given = {"inits": {"a": "{weights}/a"}, "baseline": None}
    dataset = {"scenes": {"data": "{scenes}", "val": "val", **places}}
    assert key(make_suite(**given, datasets=dataset), moved, weights, tmp_path) == first
    suite = make_suite(**given, datasets=dataset, protocols=protocols)
    out = tmp_path / "out"
    bench(**words(moved, weights, out, suite))
    assert {record["kind"] for record in records(out).values()} == {"finetune", "layer_probe"}
    assert len(list(out.glob(f"cells/*/{CORRUPTED}"))) == 1


def test_what_is_done_is_not_done_again(ran, monkeypatch):
    monkeypatch.setattr(Worker, "_start", lambda self: pytest.fail("a process was started"))
    before = {path: path.stat().st_mtime_ns for path in ran["out"].rglob("cell.json")}
    result = bench(**given(ran, only=("student",)))
    assert (result.run, result.kept) == (0, 5)
    assert {path: path.stat().st_mtime_ns for path in ran["out"].rglob("cell.json")} == before


@pytest.mark.usefixtures("forked_workers")
def test_corruptions_are_evaluated_without_training_again(ran, tmp_path, capsys):
    out = Path(shutil.copytree(ran["out"], tmp_path / "out"))
    suite = tmp_path / "more.yaml"
    suite.write_text(yaml.safe_dump({**SUITE, "corruptions": ["fog:1", "jpeg:2"]}))
    cell = next(out.glob("cells/a_scenes_linear*"))
    before = (cell / RECORD).read_text(), read_json(cell / "corrupted.json")
    bench(**given(ran, suite=suite, out=out, only=("a_", "linear"), dry_run=True))
    assert "0 of 1, 1 but for corruptions" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    result = bench(**given(ran, suite=suite, out=out, only=("a_", "linear")))
    assert (result.run, result.kept) == (1, 0)
    assert "15 of 20 cells are done, 5 of them not yet under all corruptions." in capsys.readouterr().out
    assert (cell / RECORD).read_text() == before[0]
    there = read_json(cell / "corrupted.json")
    assert there["fog:1"] == before[1]["fog:1"]
    data = next(iter(ran["data"])).partition("=")[2]
    by_hand = unip.evaluate(
        model=cell / "run",
        data=data,
        device="cpu",
        corruption=("jpeg:2",),
        out=tmp_path / "x",
        worst=0,
        window="slide",
    )
    assert there["jpeg:2"]["miou"] == by_hand.corrupted["jpeg:2"].miou
    rows = pq.read_table(out / "results.parquet").to_pylist()
    mine = {row["corruption"] for row in rows if row["folder"] == f"cells/{cell.name}"}
    assert mine == {"none", "fog", "jpeg"}
    assert "| jpeg:2 |" in (out / "tables.md").read_text()


def test_a_stop_among_corruptions_loses_one_at_most(ran, tmp_path, monkeypatch):
    cell = Path(shutil.copytree(next(ran["out"].glob("cells/a_scenes_linear*")), tmp_path / "cell"))
    before = read_json(cell / CORRUPTED)
    asked = ("fog:1", "polarity:3", "jpeg:2", "rain:1", "stripes:5")
    task = CellTask(
        axes=read_json(cell / RECORD)["axes"],
        kind="linear_probe",
        folder=cell,
        key="",
        settings={},
        model="",
        data=next(iter(ran["data"])).partition("=")[2],
        train="train",
        val=None,
        test="test",
        remap=(),
        choose={},
        corruptions=asked,
        device="cpu",
        keep_model=True,
    )

    def stopped_at_rain(ready, config, corruption):
        if str(corruption) == "rain:1":
            raise Interrupted("interrupted", "")
        return score_frames(ready, config, corruption)

    monkeypatch.setattr("unip.segmentation.evaluation.score_frames", stopped_at_rain)
    with pytest.raises(Interrupted), output_folder(cell):
        run_cell(task)
    there = read_json(cell / CORRUPTED)
    assert list(there) == ["fog:1", "polarity:3", "jpeg:2"]
    assert {name: there[name] for name in before} == before
    monkeypatch.undo()
    with output_folder(cell):
        run_cell(task)
    assert tuple(read_json(cell / CORRUPTED)) == asked


def test_corrupted_scores_of_an_older_bench_are_kept(ran, tmp_path, monkeypatch):
    out = Path(shutil.copytree(ran["out"], tmp_path / "out"))
    file = next(out.glob("cells/a_scenes_linear*")) / CORRUPTED
    new = read_json(file)
    file.write_text(json.dumps({"all:1": {"fog:1": new["fog:1"]}, "polarity": {"polarity:3": new["polarity:3"]}}))
    assert {name: scores.model_dump(mode="json") for name, scores in read_corrupted(file.parent).items()} == new
    monkeypatch.setattr(Worker, "_start", lambda self: pytest.fail("a process was started"))
    before = pq.read_table(out / "results.parquet")
    bench(**given(ran, out=out, only=("a_", "linear")))
    assert pq.read_table(out / "results.parquet").equals(before)


def test_a_report_alone_needs_neither_data_nor_weights(ran, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "run_queue", lambda *_: pytest.fail("something ran"))
    out = Path(shutil.copytree(ran["out"], tmp_path / "out"))
    before = (out / "tables.md").read_text()
    for name in ("tables.md", "tables.tex", "report.html", "results.parquet", "cost.png"):
        (out / name).unlink()
    result = bench(suite=ran["suite"], out=out, report_only=True)
    assert result.kept == 15
    assert (out / "tables.md").read_text() == before
    for name in ("tables.tex", "report.html", "results.parquet", "cost.png"):
        assert (out / name).exists()
    with pytest.raises(UnipError, match="no cell of the suite is done"):
        bench(suite=ran["suite"], out=tmp_path / "empty", report_only=True)


def test_a_dry_run_writes_nothing(ran, tmp_path, capsys):
    before = sorted(ran["out"].rglob("*"))
    assert bench(**given(ran, dry_run=True, only=("a_",))) is None
    shown = capsys.readouterr().out
    assert "5 cells, 5 done" in shown
    assert (shown.count("1 of 1"), shown.count("2 of 2")) == (3, 1)  # knn has two seeds
    assert sorted(ran["out"].rglob("*")) == before
    assert bench(**given(ran, dry_run=True, only=("student", "knn"), out=tmp_path / "new")) is None
    shown = capsys.readouterr().out
    assert "pretrain:mini: to do" in shown
    assert "0 of 2" in shown
    assert not (tmp_path / "new").exists()


def test_what_is_missing_is_said_before_anything_runs(make_suite, scenes, weights, tmp_path, capsys):
    suite = make_suite(inits={"a": "{weights}/a", "c": "{weights}/c"}, baseline=None)
    out = tmp_path / "out"
    with pytest.raises(UnipError, match="--weights FOLDER, for 2 cells\n  --data scenes=FOLDER, for 2 cells"):
        bench(suite=suite, out=out)
    with pytest.raises(UnipError, match=r"/c, for 1 cells"):
        bench(**words(scenes, weights, out, suite))
    bench(**words(scenes, weights, out, suite), skip_missing=True, dry_run=True)
    assert "left out for what is missing: 1 of 2 cells" in capsys.readouterr().out
    with pytest.raises(UnipError) as caught:
        bench(**words(scenes, weights, out, suite), skip_missing=True, only=("c_",))
    assert caught.value.fix == "Give them: without them, no chosen cell is left."
    with pytest.raises(UnipError, match="no cell's name contains zebra"):
        bench(**words(scenes, weights, out, suite), only=("fine-tuned,zebra",))
    with pytest.raises(UnipError, match="no cell's name contains all of a_ c_"):
        bench(**words(scenes, weights, out, suite), only=("a_", "c_"))
    assert not out.exists()


@pytest.mark.parametrize(("only", "cells"), [(("a_",), 5), (("a_, b_",), 10), (("a_,b_,", "linear,layers"), 4)])
def test_cells_are_chosen_by_texts_and_by_alternatives(make_suite, scenes, weights, tmp_path, capsys, only, cells):
    suite = make_suite(protocols=SUITE["protocols"])
    bench(**words(scenes, weights, tmp_path / "out", suite), only=only, dry_run=True)
    assert f"dry run: {cells} cells" in capsys.readouterr().out


# Keys --------------------------------------------------------------------------------------------------------------


def key(suite: Path, scenes: Path, weights: Path, out: Path, **changes) -> str:
    plan = BenchPlan(read_suite(suite), Locations([f"scenes={scenes}"], weights), out, "cpu", **changes)
    return plan.cell(plan.suite.cells()[0]).task().key


def test_a_key_is_of_content(make_suite, scenes, weights, tmp_path):
    suite = make_suite()
    first = key(suite, scenes, weights, tmp_path)
    moved = Path(shutil.copytree(scenes, tmp_path / "moved"))
    heavy = Path(shutil.copytree(weights, tmp_path / "heavy"))
    assert key(suite, moved, heavy, tmp_path / "elsewhere", workers=3) == first
    for other in ("lr", "steps"):
        assert key(make_suite(protocols={"p": {"settings": {**STEPS, other: 7}}}), scenes, weights, tmp_path) != first
    same = make_suite(protocols={"p": {"settings": {**STEPS, "log_every": 3, "weight_decay": 0.05}}})
    assert key(same, scenes, weights, tmp_path) == first  # neither how it is watched nor a default that is spelt out
    suite = make_suite()
    shutil.copy(heavy / "b/model.safetensors", heavy / "a/model.safetensors")
    assert key(suite, scenes, heavy, tmp_path) != first
    damaged = Path(shutil.copytree(scenes, tmp_path / "damaged"))
    mask = sorted((damaged / "test/masks").glob("*.png"))[0]
    pixels = np.array(Image.open(mask))
    pixels[0, 0] = (pixels[0, 0] + 1) % 3
    Image.fromarray(pixels).save(mask)
    assert key(suite, damaged, weights, tmp_path) != first


def test_a_wrong_setting_names_its_cell(make_suite, scenes, weights, tmp_path):
    suite = make_suite(protocols={"p": {"settings": {**STEPS, "weight_decy": 1}}})
    with pytest.raises(UnipError, match=r"a_scenes_p_100pct_seed0: unknown setting 'weight_decy'") as caught:
        bench(**words(scenes, weights, tmp_path / "out", suite), dry_run=True)
    assert "weight_decay" in caught.value.fix


# Processes ---------------------------------------------------------------------------------------------------------

LONG = {**STEPS, "steps": 80, "checkpoint_every": 5, "workers": 1}


def start(given: dict) -> Forked:
    """Run a bench in a process of its own, with a worker as users have it, and wait for its first checkpoint."""
    options = ["--data", *given["data"], "--weights", given["weights"], "--out", given["out"], "--device", "cpu"]
    process = run_unip("bench", given["suite"], *options)
    wait_for(given["out"], process)
    return process


def wait_for(out: Path, process: Forked | None = None) -> None:
    deadline = time.monotonic() + 120
    while not list(out.glob("cells/*/run/checkpoints/step-*")):
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.stderr.read().decode()
        time.sleep(0.02)


def finish(given: dict) -> program.BenchResult:
    """Run a bench as soon as the processes of the one before are gone."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return bench(**given)
        except UnipError as error:
            assert "is in use by" in error.what
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_bench_that_ends_half_way_goes_on(make_suite, scenes, weights, tmp_path, request, how):
    suite = make_suite(inits={"a": "{weights}/a"}, baseline=None, protocols={"fine-tuned": {"settings": LONG}})
    given = words(scenes, weights, tmp_path / "out", suite)
    process = start(given)
    process.send_signal(how)
    code, _, err = process.finish()
    assert code == (130 if how == signal.SIGTERM else -signal.SIGKILL)
    if how == signal.SIGTERM:
        assert "interrupted: 0 of 1 cells are done" in err and "1/1 jobs" not in err
    assert not list(given["out"].glob(f"cells/*/{RECORD}"))
    request.getfixturevalue("forked_workers")
    result = finish(given)
    assert (result.run, result.kept) == (1, 0)
    assert "continuing from" in next(given["out"].glob("cells/*/log.txt")).read_text()


def test_many_workers_are_stopped_at_the_same_time_with_their_states_saved(make_suite, scenes, weights, tmp_path):
    settings = {**LONG, "steps": 100_000, "checkpoint_every": 100_000, "log_every": 1, "workers": 0}
    suite = make_suite(
        inits={"a": "{weights}/a"}, baseline=None, seeds=[0, 1, 2], protocols={"p": {"settings": settings}}
    )
    out = tmp_path / "out"
    options = ["--data", f"scenes={scenes}", "--weights", weights, "--out", out, "--device", "cpu"]
    process = run_unip("bench", suite, *options, "--workers-per-device", "4")  # more than there are cells
    deadline = time.monotonic() + 120
    while len([log for log in out.glob("cells/*/run/log.jsonl") if log.stat().st_size]) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    code, _, err = process.finish()
    assert code == 130 and "interrupted: 0 of 3 cells are done" in err
    assert len(list(out.glob("cells/*/run/checkpoints/step-*"))) == 3
    assert all("Traceback" not in log.read_text() for log in out.glob("cells/*/log.txt"))


def test_a_worker_leaves_without_taking_the_interpreter_down_and_ends_its_loaders():
    """Objects that would be deleted at the end cost seconds where torch is among them."""
    code = """
import multiprocessing, os, sys, time
from torch.utils.data import DataLoader
from unip.runtime.workers import load, start_of_workers
from unip.suites.worker import leave

class Slow:
    def __del__(self): print("deleted", flush=True)

slow = Slow()
batches = load(DataLoader(range(100), num_workers=1, worker_init_fn=start_of_workers()))
next(batches)
print(multiprocessing.active_children()[0].pid)
leave()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (loader,) = done.stdout.split()
    assert not Path(f"/proc/{loader}").exists()


def test_all_workers_are_told_to_end_before_one_is_waited_for(monkeypatch):
    happened = []

    class Process:
        def __init__(self, name):
            self.name = name
            self.stdin = self.stdout = SimpleNamespace(close=lambda: happened.append("told"))

        def wait(self, timeout):
            happened.append("waited")

    workers = [Worker(VisibleDevice("")) for _ in range(4)]
    for number, each in enumerate(workers[:3]):  # one was never started
        each.process = Process(number)
    close_all(workers)
    assert happened[:6] == ["told"] * 6 and happened.count("waited") == 3
    assert all(each.process is None for each in workers)


def test_a_log_is_never_in_the_way_of_the_next_call(tmp_path, monkeypatch):
    """Also where a disk is so full that an empty file can still be made, but not be listed."""
    task = PretrainTask(name="mini", folder=tmp_path / "mini", settings={})

    def no_space(self, name, *_, **__):
        raise UnipError(f"cannot write {self.list}: No space left on device", "Free some space.")

    with monkeypatch.context() as patched:
        patched.setattr(OutputFolder, "note", no_space)
        outcome = attempt(task)
    assert outcome.state == "failed" and "No space left" in outcome.what
    assert OutputFolder(task.folder).state("log.txt") != "foreign"


@pytest.mark.usefixtures("forked_workers")
def test_a_process_that_dies_takes_one_cell_along(make_suite, scenes, weights, tmp_path):
    suite = make_suite(protocols={"fine-tuned": {"settings": LONG}}, baseline=None)
    plan = BenchPlan(read_suite(suite), Locations([f"scenes={scenes}"], weights), tmp_path / "out", "cpu")
    one = Worker(VisibleDevice(""))
    killed: list[int] = []

    def look() -> bool:
        if not killed and list(plan.out.glob("cells/a_*/run/checkpoints/step-*")):
            killed.append(one.process.pid)
            os.kill(one.process.pid, signal.SIGKILL)
        return False

    with output_folder(plan.out):
        ended = list(run_queue(plan.jobs(plan.suite.cells()), [one], look))
    one.close()
    assert [(e.job.axes.init, e.outcome.state) for e in ended] == [("a", "died"), ("b", "done")]
    assert "SIGKILL" in ended[0].outcome.what


def test_two_benches_do_not_share_a_folder(make_suite, scenes, weights, tmp_path):
    given = {"suite": make_suite(), "data": (f"scenes={scenes}",), "weights": weights, "out": tmp_path / "out"}
    with output_folder(tmp_path / "out"), pytest.raises(UnipError, match="out is in use by"):
        bench(**given, device="cpu")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name", ["index.json", "results.parquet", "report.html", "tables.md", "tables.tex", "cost.png"]
)
def test_a_file_that_the_bench_did_not_write_stays(make_suite, scenes, weights, tmp_path, name, overwrite):
    given = {"suite": make_suite(), "data": (f"scenes={scenes}",), "weights": weights, "out": tmp_path / "out"}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    for values in ({}, {"report_only": True}, {"dry_run": True}):
        with pytest.raises(UnipError, match=rf"{name} \(not written by unip\)"):
            bench(**given, **values, device="cpu", overwrite=overwrite)
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_devices(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [device.visible for device in find_devices("auto")] == ["0", "1"]
    assert [device.visible for device in find_devices("cpu")] == [""]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-77")
    assert [device.visible for device in find_devices("cuda")] == ["3", "GPU-77"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UnipError, match="torch finds no GPU"):
        find_devices("cuda")


def test_settings():
    assert BenchConfig.make(suite="x.yaml").workers_per_device == 1
    with pytest.raises(UnipError, match="unknown setting 'seeds'"):
        BenchConfig.make(suite="x.yaml", seeds=3)
