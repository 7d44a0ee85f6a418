import json
import os
import re
import struct
import zlib

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

import unip.data.looking
from unip.data.findings import count_negatives, two_polarities
from unip.data.images.palettes import known_palettes
from unip.data.images.quality import FALSE_COLOUR, colour_spread, sharpness, tilt
from unip.data.manifests.facts import perceptual_hash
from unip.data.verbs import check
from unip.errors import Interrupted


def scene(seed, size=(96, 128)):
    """A smooth grey picture over the whole range."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(20, 236, (6, 8), dtype=np.uint8))
    return np.array(small.resize(size[::-1], Image.Resampling.BICUBIC))


def colours(seed):
    return np.stack([scene(10 * seed + channel, (256, 320)) for channel in range(3)], -1)


def mapped(name, seed, path=None, **options):
    """A picture in a colour map, through a file if a path is given."""
    table = (colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    image = table[scene(seed, (256, 320))]
    if path is None:
        return image
    Image.fromarray(image).save(path, **options)
    return np.array(Image.open(path))


@pytest.fixture
def bad_folder(tmp_path):
    """A folder with one file of each kind of trouble."""
    images = tmp_path / "set/thermal"
    images.mkdir(parents=True)
    for seed in range(6):
        Image.fromarray(scene(seed)).save(images / f"good{seed}.png")
    (images / "empty.png").touch()
    (images / "text.png").write_text("not an image")
    data = (images / "good0.png").read_bytes()
    (images / "cut.png").write_bytes(data[: len(data) // 2])
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (images / "bomb.png").write_bytes(data[:8] + chunk + data[33:])
    Image.fromarray(scene(7, (20, 30))).save(images / "small.png")
    Image.fromarray(np.full((96, 128), 90, np.uint8)).save(images / "constant.png")
    Image.fromarray((scene(8) // 60 + 90).astype(np.uint8)).save(images / "flat.png")
    Image.fromarray(np.where(scene(9) > 120, 255, scene(9)).astype(np.uint8)).save(images / "saturated.png")
    Image.fromarray(mapped("inferno", 1)).save(images / "iron.png")
    Image.fromarray(colours(2)).save(images / "colour.png")
    Image.fromarray(scene(11).astype(np.uint16) * 50).save(images / "deep.png")
    (images / "loop").symlink_to(tmp_path / "set")
    (images / os.fsdecode(b"na\nme\xff.png")).write_bytes(b"")
    return tmp_path / "set"


def test_each_kind_is_found_once_and_no_more(bad_folder, tmp_path, capsys):
    result = check(sources=[str(bad_folder)], out=tmp_path / "out")
    found = {os.path.basename(finding.path): finding.kind for finding in result.findings}
    assert found == {
        b"empty.png": "unreadable",
        b"text.png": "unreadable",
        b"na\nme\xff.png": "unreadable",
        b"cut.png": "damaged",
        b"bomb.png": "bomb",
        b"small.png": "small",
        b"constant.png": "constant",
        b"flat.png": "flat",
        b"saturated.png": "saturated",
        b"iron.png": "false colour",
        b"colour.png": "colour",
        b"deep.png": "bit depth",
    }
    assert len(result.findings) == len(found)
    record = json.loads((tmp_path / "out/check.json").read_text())
    assert record["images"] == result.images == 18
    assert record["sources"][0]["kinds"]["unreadable"] == 3
    assert any(finding["path"].endswith(r"na\nme\xff.png") for finding in record["findings"])
    assert "saturated" in capsys.readouterr().out


def test_page_needs_nothing_from_elsewhere(bad_folder, tmp_path):
    check(sources=[str(bad_folder)], out=tmp_path / "out")
    page = (tmp_path / "out/check.html").read_text()
    assert not re.search(r"https?://|src=\"(?!data:)|<link|<script", page)
    assert (
        page.count("<img") == 7 + 9 and "iron.png" in page
    )  # those with a finding; of twelve drawn evenly, nine can be read
    assert "<rect" in page and "grey levels of 12 frames" in page


@pytest.mark.parametrize("kind", ["L", "1", "RGB", "deep", "small objects"])
def test_masks_among_frames_are_said_to_be_masks(tmp_path, kind):
    objects = scene(1) > (scene(1).max() - 1 if kind == "small objects" else 120)
    mask = np.where(objects, 65535, 0).astype(np.uint16) if kind == "deep" else np.where(objects, 255, 0)
    (tmp_path / "set/labels of mine").mkdir(parents=True)
    image = Image.fromarray(mask if kind == "deep" else mask.astype(np.uint8))
    (image.convert(kind) if kind in ("1", "RGB") else image).save(tmp_path / "set/labels of mine/a.png")
    assert 0 < objects.mean() < 1
    findings = check(sources=[f"infrared={tmp_path / 'set'}"], out=tmp_path / "out").findings
    assert [finding.kind for finding in findings] == ["black and white"]


def test_grey_frames_with_noise_in_their_colours_are_said_to_be_perhaps_grey(tmp_path):
    noise = np.random.default_rng(0).integers(-4, 5, (96, 128, 3))
    (tmp_path / "set").mkdir()
    Image.fromarray(np.clip(scene(1)[..., None] + noise, 0, 255).astype(np.uint8)).save(tmp_path / "set/a.png")
    (finding,) = check(sources=[f"infrared={tmp_path / 'set'}"], out=tmp_path / "out").findings
    assert finding.kind == "colour" and "perhaps grey with noise" in finding.detail


def test_thresholds(bad_folder, tmp_path):
    result = check(
        sources=[str(bad_folder)], out=tmp_path / "out", min_side=10, min_contrast=0, max_saturated=1, dry_run=True
    )
    assert {"small", "flat", "saturated"}.isdisjoint(finding.kind for finding in result.findings)
    assert not (tmp_path / "out").exists()


def test_rgb_sources_may_have_colours(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(colours(1)).save(tmp_path / "a/1.png")
    assert not check(sources=[f"rgb={tmp_path / 'a'}"], out=tmp_path / "out").findings


def test_an_interrupted_run_goes_on(bad_folder, tmp_path, monkeypatch):
    real = unip.data.looking.read_with_facts
    seen = []

    def stop_at_ten(path):
        seen.append(path)
        if len(seen) == 10:
            raise Interrupted("interrupted")
        return real(path)

    monkeypatch.setattr(unip.data.looking, "read_with_facts", stop_at_ten)
    with pytest.raises(Interrupted):
        check(sources=[str(bad_folder)], out=tmp_path / "out", workers=1)
    assert not (tmp_path / "out/check.json").exists()
    again = []
    monkeypatch.setattr(unip.data.looking, "read_with_facts", lambda path: again.append(path) or real(path))
    assert check(sources=[str(bad_folder)], out=tmp_path / "out", workers=1).images == 18
    assert len(again) == 18 - 9


@pytest.mark.parametrize("name", ["inferno", "jet", "rainbow", "hot", "viridis", "turbo"])
def test_colour_maps_are_told_from_colours(name, tmp_path):
    assert colour_spread(mapped(name, 1)) == 0.0
    assert colour_spread(mapped(name, 2, tmp_path / "a.jpg", quality=90)) < FALSE_COLOUR
    assert colour_spread(colours(3)) > 2 * FALSE_COLOUR


@pytest.mark.parametrize("name", ["rainbow-hc", "iron", "jet"])
def test_a_palette_is_named_in_a_jpeg(name, tmp_path):
    palette = next(known for known in known_palettes() if known.name == name)
    (tmp_path / "a").mkdir()
    image = np.rint(palette.colours).astype(np.uint8)[scene(1)]
    Image.fromarray(image).save(tmp_path / "a/1.jpg", quality=70)
    found = check(sources=[f"infrared={tmp_path / 'a'}"], out=tmp_path / "out").findings
    assert [(finding.kind, finding.detail) for finding in found] == [("false colour", f"palette {name}")]


def test_little_colour_cannot_be_judged():
    assert colour_spread(np.repeat(scene(1)[..., None], 3, 2)) == 1.0
    assert colour_spread(colours(1)[:16, :16]) == 1.0


def test_sharpness_and_tilt():
    steps = np.tile(np.arange(0, 100, 5, dtype=np.uint8), (20, 1))
    assert sharpness(steps) == pytest.approx(2.5)  # 5 across, 0 down
    assert tilt(steps) == pytest.approx(0)
    halves = np.zeros((64, 64), np.uint8)
    halves[:32] = 200
    assert tilt(halves) == pytest.approx(2) and tilt(255 - halves) == pytest.approx(-2)
    assert tilt(np.zeros((5, 5), np.uint8)) == 0 and sharpness(np.zeros((1, 1), np.uint8)) == 0


def test_negatives_of_one_scene_are_found():
    frames = [scene(seed) for seed in range(12)]
    hashes = np.array([perceptual_hash(frame) for frame in frames], dtype=np.uint64)
    assert count_negatives(hashes) == 0
    negative = np.uint64(perceptual_hash(255 - frames[3]))
    assert count_negatives(np.append(hashes, negative)) == 2
    assert count_negatives(np.array([], dtype=np.uint64)) == 0


def test_two_polarities_need_two_separate_modes():
    rng = np.random.default_rng(0)
    modes = np.concatenate([rng.normal(-1, 0.2, 60), rng.normal(1, 0.2, 40)])
    assert two_polarities(modes) == (60, 40)
    for single in (rng.normal(0, 1, 500), rng.uniform(-2, 2, 500), rng.normal(1, 0.2, 500), modes[55:65]):
        assert two_polarities(single) is None
