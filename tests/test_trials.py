"""The tools that kill calls and fill disks: what they compare, draw and count. The trials themselves take minutes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import full_disk
import kills
import trials
from trials import differences
from unip.verbs import DATA_VERBS, VERBS


def result(root: Path, **changes: str) -> Path:
    files = {
        "model/model.safetensors": "weights",
        "log.jsonl": '{"step": 1, "loss": 0.5, "samples_per_second": 3}\n',
        "metrics.json": '{"miou": 0.5, "seconds": 7, "inner": {"speed": 1}}',
        "environment.json": "{}",
        ".unip/lock": "",
    }
    for name, text in {**files, **changes}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("name", "text", "equal"),
    [
        ("model/model.safetensors", "others", False),
        ("log.jsonl", '{"step": 1, "loss": 0.5, "samples_per_second": 4}\n', True),
        ("log.jsonl", '{"step": 1, "loss": 0.6, "samples_per_second": 3}\n', False),
        ("log.jsonl", '{"step": 1, "loss": 0.5}\n{"step": 1, "loss": 0.5}\n', False),
        ("metrics.json", '{"miou": 0.5, "seconds": 8, "inner": {"speed": 2}}', True),
        ("metrics.json", '{"miou": 0.4, "seconds": 7, "inner": {"speed": 1}}', False),
        ("metrics.json", '{"miou": 0.5, "seconds": 7, "inner": {"speed": 1}, "latency_ms": {"p50": 2}}', True),
        ("environment.json", "[]", True),
        (".unip/lock", "held", True),
        ("new.txt", "", False),
    ],
)
def test_results_are_compared_but_for_measurements(tmp_path, name, text, equal):
    found = differences(result(tmp_path / "a"), result(tmp_path / "b", **{name: text}))
    assert (found == []) is equal and all(name in line for line in found)


def test_a_file_that_is_missing(tmp_path):
    left, right = result(tmp_path / "a"), result(tmp_path / "b")
    (right / "log.jsonl").unlink()
    assert differences(left, right) == ["log.jsonl is missing"]


def test_every_verb_is_tried():
    every = [*VERBS, *(f"data {name.replace('_', '-')}" for name in DATA_VERBS)]
    assert sorted([*trials.verbs(), *trials.NOT_TRIED]) == sorted(every)
    things = trials.Things(Path("things"), frames=1, steps=1)
    assert set(things._settings()) == set(trials.verbs()) >= set(kills.VERBS)


def test_kills_are_shared():
    verbs = kills.share(200, list(kills.VERBS))
    assert len(verbs) == 200 and verbs.count("bench") == 32 and min(map(verbs.count, kills.VERBS)) == 21
    assert kills.share(3, ["predict"]) == ["predict"] * 3


def test_sizes_of_disks():
    sizes = [full_disk.draw_size(10**6, f"0 predict size {n}") for n in range(200)]
    assert all(size % full_disk.PAGE == 0 for size in sizes)
    assert min(sizes) <= 2 * full_disk.PAGE and max(sizes) > 10**6 and len(set(sizes)) > 100


def test_tables_count_what_is_wrong():
    one = kills.Trial(0, "predict", "TERM", 1.0, 130, None, 0, [])
    two = kills.Trial(1, "predict", "KILL", 1.0, -9, 0.1, 0, ["log.jsonl differs"])
    assert kills.table([one, two]).splitlines()[-1] == "| all | 2 | 1 | 1 | 0 | 1 | 1 |"
    full = full_disk.Trial("predict", "size 0", 4096, 2, 0, [], "")
    fits = full_disk.Trial("predict", "size 1", 8192, 0, 0, [], "")
    closed = full_disk.Trial("predict", "stdout closed", 0, 1, 0, ["exit code 1"], "")
    assert "| all | 2 | 1 | 0 | 1 | 2 | 1 |" in full_disk.table([full, fits, closed]).splitlines()
    assert json.loads(json.dumps(vars(full)))["size"] == 4096


def test_the_traceback_of_a_call_is_told(tmp_path):
    (tmp_path / "first.err").write_text(f"a bar\nException ignored in: x\n{trials.TRACEBACK}:\n  File y\nKeyError: 1\n")
    (tmp_path / "again.err").write_text("error: no space\n")
    [told] = trials.tracebacks(tmp_path)
    assert told.startswith("traceback of first: a bar\nException ignored") and told.endswith("KeyError: 1\n")
