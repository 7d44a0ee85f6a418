"""NMI that was measured is kept: found again for the same teacher and images, for no others, and never half."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unip.pretraining.measured import keep_measurement, measurement_path, read_measurement
from unip.vit.backbone import load_backbone


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def teacher():
    return load_backbone("unip-ir-tiny")


def squares(value=0):
    return [torch.full((2, 1, 16, 16), value, dtype=torch.uint8)]


def test_what_was_kept_is_found_again(teacher):
    path = measurement_path(teacher, squares(), 64)
    assert read_measurement(path, 2) is None
    keep_measurement(path, [0.125, 0.25])
    assert read_measurement(measurement_path(teacher, squares(), 64), 2) == [0.125, 0.25]
    keep_measurement(path, [0.5, 0.75])
    assert read_measurement(path, 2) == [0.5, 0.75]


def test_another_teacher_image_or_size_is_another_entry(teacher):
    report = replace(teacher.report, sha256="0" * 64)
    patches = teacher.spec.arguments | {"patch_size": 8}
    others = [
        measurement_path(replace(teacher, report=report), squares(), 64),
        measurement_path(replace(teacher, spec=teacher.spec.model_copy(update={"arguments": patches})), squares(), 64),
        measurement_path(teacher, squares(1), 64),
        measurement_path(teacher, squares(), 80),
        measurement_path(teacher, squares(), 64),
    ]
    assert len(set(others)) == 5


def test_random_weights_are_not_kept():
    path = measurement_path(load_backbone("unip_micro"), squares(), 64)
    assert path is None and read_measurement(path, 2) is None
    keep_measurement(path, [0.5])  # nothing to do


@pytest.mark.parametrize("content", ["", "[0.1", "[0.1]", '["x", 0.1]', "{}", "[0.1, 0.2, 0.3]", "\xff"])
def test_a_damaged_entry_is_measured_again(teacher, content):
    path = measurement_path(teacher, squares(), 64)
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin1"))
    assert read_measurement(path, 2) is None


def test_a_cache_that_cannot_be_written_stops_nothing(teacher, cache):
    (cache / "unip").write_text("a file where the folder should be")
    path = measurement_path(teacher, squares(), 64)
    keep_measurement(path, [0.5, 0.75])
    assert read_measurement(path, 2) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_not_kept(teacher, value):
    path = measurement_path(teacher, squares(), 64)
    keep_measurement(path, [0.5, value])
    assert read_measurement(path, 2) is None and not path.exists()
