"""`unip doctor`: its page, its record, its advice, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import typing
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image

import unip
from tests.data.examination.made import frames, scene, write
from tests.data.images.radiometric_files import dji_jpeg, flir_jpeg
from unip.data.config import DoctorConfig
from unip.data.examination.advice import next_steps
from unip.data.examination.frames import choose_sample, list_frames
from unip.data.examination.likeness import likeness, references
from unip.data.examination.records import ConversionAdvice, DoctorResult, Features, Likeness
from unip.data.images.config import Conversion
from unip.data.images.palettes import known_palettes
from unip.errors import UnipError
from unip.verbs import DATA_VERBS, VERBS


def test_page_and_record(tmp_path):
    folder = write(tmp_path / "camera", frames())
    result = unip.doctor(folder=folder, out=tmp_path / "out")
    assert result.report == tmp_path / "out/doctor.json"
    record = json.loads(result.report.read_text())
    expected = {field.name for field in fields(DoctorResult)} - {"report"} | {"format", "settings"}
    assert set(record) == expected
    assert len(record["frames"]) == 12 and record["symptoms"] == [] and record["numbers"]["kind"] == "preview"
    page = (tmp_path / "out/doctor.html").read_text()
    assert "No defect was found" in page and "http" not in page.replace("http-equiv", "")
    for step in result.steps:
        assert step.command in page.replace("&#39;", "'")


def test_the_record_has_the_types_that_it_states(tmp_path):
    """Plain JSON types, as in the dataclasses: no numpy scalars, no NaN."""
    result = unip.doctor(folder=write(tmp_path / "camera", frames(9)), out=tmp_path / "out", dry_run=True)
    hints = typing.get_type_hints(type(result.frames[0]))
    for frame in result.frames:
        for name, hint in hints.items():
            kinds = typing.get_args(hint) or (hint,)
            value = getattr(frame, name)
            assert type(value) in kinds or value in kinds, (name, value)
    assert not (tmp_path / "out").exists()


def test_defects_are_on_the_page(tmp_path):
    images = frames()
    for image in images:
        image[10:20, 100:130] = np.random.default_rng(0).integers(0, 2, (10, 30)) * 255
    images[5] = images[4]
    result = unip.doctor(folder=write(tmp_path / "camera", images), out=tmp_path / "out")
    assert {"overlay", "frozen"} <= {one.kind for one in result.symptoms}
    page = (tmp_path / "out/doctor.html").read_text()
    assert "Overlay" in page and "Frozen" in page and "Marked in red" in page


def test_counts_get_four_conversions(tmp_path):
    images = [(7000 + 8 * scene(seed)).astype(np.uint16) for seed in range(8)]
    unip.doctor(folder=write(tmp_path / "counts", images), out=tmp_path / "out")
    page = (tmp_path / "out/doctor.html").read_text()
    shown = re.findall(r"<figcaption>(--[^<]+?) ?<", page)
    assert [text.split()[0] for text in shown] == ["--conversion"] * 3 + ["--window"]


def test_palettes_are_named_and_inverted(tmp_path):
    colours = np.rint(next(one for one in known_palettes() if one.name == "magma").colours).astype(np.uint8)
    result = unip.doctor(folder=write(tmp_path / "camera", [colours[f] for f in frames()]), out=tmp_path / "out")
    assert result.palettes == {"magma": 12} and result.conversion.options == ("--palette", "invert")
    assert "--palette invert" in next(step.command for step in result.steps if "finetune" in step.command)
    assert "noise" not in {one.kind for one in result.symptoms}


@pytest.mark.parametrize("maker", ["FLIR", "DJI"])
def test_radiometric_files_are_named(tmp_path, maker):
    counts = (12000 + np.arange(60 * 80).reshape(60, 80)).astype(np.uint16)
    picture = np.dstack([scene(0, (60, 80)).astype(np.uint8)] * 3)
    (tmp_path / "camera").mkdir()
    data = flir_jpeg(counts, picture) if maker == "FLIR" else dji_jpeg(counts, picture)
    (tmp_path / "camera/a.jpg").write_bytes(data)
    result = unip.doctor(folder=tmp_path / "camera", out=tmp_path / "out")
    assert result.radiometric == {maker: 1} and result.conversion.options == ("--radiometric",)
    assert any("--radiometric" in note for note in result.notes)
    if maker == "FLIR":
        pytest.importorskip("flyr", reason="needs flyr, of the extra `thermal`")
    measured = unip.doctor(folder=tmp_path / "camera", radiometric=True, out=tmp_path / "measured")
    assert measured.numbers.kind == {"FLIR": "temperatures", "DJI": "counts"}[maker]


def label(root, splits):
    mask = np.zeros((120, 160), np.uint8)
    mask[10:40, 10:40] = 1
    for split in splits:
        write(root / split / "images", frames(3))
        write(root / split / "masks", [mask] * 3)
    (root / "classes.json").write_text('{"names": ["background", "hot"]}')
    return root


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("",)])
def test_labels_are_found_and_the_commands_fit_them(tmp_path, splits):
    root = label(tmp_path / "my data", splits)
    for folder in (root, root / splits[0] / "images"):
        result = unip.doctor(folder=folder, out=tmp_path / "out")
        assert result.labels == str(root)
        assert len(result.frames) == 3 * (len(splits) if folder == root else 1)  # masks are no frames
        finetune = next(shlex.split(step.command) for step in result.steps if " finetune " in step.command)
        data = finetune[finetune.index("--data") + 1]
        assert data == (str(root) if splits[0] else "split")
        assert any("data split" in step.command for step in result.steps) == (not splits[0])


def test_every_command_is_one_that_the_verbs_take(tmp_path):
    """Settings of the commands are known, and their names and values are taken apart by a shell as they were meant."""
    result = unip.doctor(folder=label(tmp_path / "my data", ("",)), out=tmp_path / "out")
    for step in result.steps:
        program, verb, *words = shlex.split(step.command)
        assert program == "unip"
        found = DATA_VERBS[words.pop(0)] if verb == "data" else VERBS[verb]
        known = found.load_settings().model_fields
        assert {word[2:].replace("-", "_") for word in words if word.startswith("--")} <= set(known)


@pytest.mark.parametrize("options", [(), ("--palette", "invert"), ("--radiometric",), ("--conversion", "plateau")])
def test_a_first_look_at_frames_like_those_of_a_shipped_model(tmp_path, options):
    advice = ConversionAdvice(Conversion(), "", options)
    for distance, wanted in ((1.0, True), (2.0, False)):
        steps = next_steps(tmp_path, None, advice, [], Likeness("HIT-UAV (train)", distance, "", {}))
        looks = [shlex.split(step.command) for step in steps if "unip-aerial-tiny" in step.command]
        assert bool(looks) == wanted
        for look in looks:
            names = {word[2:].replace("-", "_") for word in look if word.startswith("--")}
            assert names <= set(VERBS["predict"].load_settings().model_fields)


def test_many_frames_are_sampled_in_runs():
    paths = [str(number) for number in range(1000)]
    chosen = choose_sample(paths, 40)
    assert len(chosen) == 40 and chosen[:4] == ["0", "1", "2", "3"] and chosen[-1] == "999"
    assert choose_sample(paths, 0) == paths and choose_sample(paths[:7], 40) == paths[:7]


def test_names_are_in_the_order_of_people(tmp_path):
    write(tmp_path, frames(11))
    assert [path.rsplit("/", 1)[-1] for path in list_frames(tmp_path)] == [f"{i}.png" for i in range(11)]


def test_a_bad_file_does_not_stop_it(tmp_path):
    folder = write(tmp_path / "camera", frames(3))
    (folder / "bad.png").write_bytes((folder / "0.png").read_bytes()[:200])
    result = unip.doctor(folder=folder, out=tmp_path / "out")
    assert len(result.frames) == 3 and "damaged" in result.unreadable[0].problem
    assert result.symptoms[0].kind == "unreadable"


def test_what_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_text("no image")
    for folder, message in (("missing", "no such folder"), ("empty", "no images in"), ("bad", "no frame of")):
        with pytest.raises(UnipError, match=message) as caught:
            unip.doctor(folder=tmp_path / folder, out=tmp_path / "out")
        assert caught.value.exit_code == 2 and caught.value.fix
    assert not (tmp_path / "out").exists()
    with pytest.raises(UnipError, match="frames"):
        DoctorConfig.make(folder=tmp_path, frames=-1)


def test_torch_is_not_imported(tmp_path):
    folder = write(tmp_path / "camera", frames(9))
    code = "import sys, unip; unip.doctor(folder=sys.argv[1], out=sys.argv[2]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(folder), str(tmp_path / "out")], check=True)


def test_likeness_of_known_and_of_strange_frames():
    names = [field.name for field in fields(Features)]
    for data, known in references().items():
        assert list(known) == names
        alike = Features(*(known[name][0] for name in names))
        assert (likeness([alike])[0].data, likeness([alike])[0].distance) == (data, 0.0)
    strange = Features(*(known[name][0] + 6 * known[name][1] for name in names))
    found = {one.data: one for one in likeness([strange])}[data]
    assert found.distance == pytest.approx(6, abs=0.01) and found.words.startswith("unlike")


def test_a_single_image(tmp_path):
    Image.fromarray(frames(1)[0]).save(tmp_path / "a.png")
    result = unip.doctor(folder=tmp_path / "a.png", out=tmp_path / "out")
    assert len(result.frames) == 1 and result.labels is None
