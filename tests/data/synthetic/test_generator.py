from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from unip.data.synthetic.generator import Scene, generate_scene
from unip.data.synthetic.materials import SCENE_CLASSES, SCENE_PALETTE
from unip.errors import UnipError

SIZE = (96, 128)
GROUND, SKY, ROAD, BUILDING, TREE, PERSON, VEHICLE = range(7)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(seed, SIZE) for seed in range(80)]


def _digest(scene: Scene) -> str:
    parts = (scene.temperature, scene.thermal16, scene.thermal8, scene.visible, scene.mask)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_shapes_and_types(scenes: list[Scene]) -> None:
    scene = scenes[0]
    assert scene.temperature.shape == SIZE and scene.temperature.dtype == np.float32
    assert scene.thermal16.shape == SIZE and scene.thermal16.dtype == np.uint16
    assert scene.thermal8.shape == SIZE and scene.thermal8.dtype == np.uint8
    assert scene.visible.shape == (*SIZE, 3) and scene.visible.dtype == np.uint8
    assert scene.mask.shape == SIZE and scene.mask.dtype == np.uint8
    assert len(SCENE_CLASSES) == len(SCENE_PALETTE) == len(set(SCENE_PALETTE)) == 7


def test_same_bytes_whatever_the_global_generator_and_the_order(scenes: list[Scene]) -> None:
    np.random.seed(1)
    first = _digest(generate_scene(7, SIZE))
    np.random.seed(2)
    generate_scene(3, (64, 80))
    assert first == _digest(generate_scene(7, SIZE)) == _digest(scenes[7])
    assert len({_digest(scene) for scene in scenes}) == len(scenes)


def test_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from unip.data.synthetic.generator import generate_scene; s = generate_scene(11, (64, 80));"
        "print(hashlib.sha256(s.thermal16.tobytes() + s.visible.tobytes() + s.mask.tobytes()).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    scene = generate_scene(11, (64, 80))
    here = hashlib.sha256(scene.thermal16.tobytes() + scene.visible.tobytes() + scene.mask.tobytes()).hexdigest()
    assert run.stdout.strip() == here


def test_every_class_is_common(scenes: list[Scene]) -> None:
    ids = np.stack([np.bincount(scene.mask.ravel(), minlength=256) for scene in scenes])
    assert not ids[:, len(SCENE_CLASSES) :].any()
    share = (ids[:, : len(SCENE_CLASSES)] >= 10).mean(axis=0)
    wanted = dict(zip(SCENE_CLASSES, (0.9, 0.45, 0.85, 0.7, 0.8, 0.6, 0.6), strict=True))
    for (name, least), got in zip(wanted.items(), share, strict=True):
        assert got >= least, name
    # Some views have no sky (drone), some are at night, and all seasons occur.
    assert (ids[:, SKY] == 0).mean() > 0.1
    assert 0.25 < np.mean([scene.weather.night for scene in scenes]) < 0.7
    assert len({scene.weather.season for scene in scenes}) == 4


def test_sky_is_colder_than_the_air(scenes: list[Scene]) -> None:
    checked = 0
    for scene in scenes:
        sky = scene.temperature[scene.mask == SKY]
        if sky.size > 200:
            checked += 1
            assert np.median(sky) < scene.weather.air
            # It is coldest where the path through the air is shortest, high above the horizon.
            rows = np.nonzero((scene.mask == SKY).sum(axis=1) > 20)[0]
            if scene.weather.clouds < 0.02 and len(rows) > 30:
                top, low = (scene.temperature[r][scene.mask[r] == SKY].mean() for r in (rows[0], rows[-1]))
                assert top < low
    assert checked > 20


def test_people_are_warm_at_night(scenes: list[Scene]) -> None:
    checked = 0
    for scene in scenes:
        people, ground = scene.mask == PERSON, (scene.mask == GROUND) | (scene.mask == ROAD)
        if scene.weather.night and scene.weather.extinction < 1e-3 and people.sum() > 30 and ground.sum() > 100:
            checked += 1
            warm = scene.temperature[people]
            assert np.median(warm) > np.median(scene.temperature[ground]) + 2
            # Skin: warmer than the clothes, never warmer than a body.
            assert np.percentile(warm, 97) > np.median(warm)
            assert np.percentile(warm, 99) < 273.15 + 36.5
    assert checked > 8


def test_temperatures_are_earthly(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert np.isfinite(scene.temperature).all()
        assert scene.temperature.min() > 195.0
        assert scene.temperature.max() < 273.15 + 90.0
        trees = scene.temperature[scene.mask == TREE]
        if trees.size > 100:
            assert abs(np.median(trees) - scene.weather.air) < 6.0


def test_sun_warms_roads(scenes: list[Scene]) -> None:
    def excess(day: bool) -> list[float]:
        chosen = [s for s in scenes if (s.weather.sunshine > 0.6 if day else s.weather.night)]
        roads = [(s.temperature[s.mask == ROAD], s.weather.air) for s in chosen]
        return [float(np.median(road)) - air for road, air in roads if road.size > 100]

    assert np.median(excess(True)) > np.median(excess(False)) + 3


def test_visible_is_dark_at_night_and_has_more_texture_by_day(scenes: list[Scene]) -> None:
    night = [scene.visible.mean() for scene in scenes if scene.weather.night]
    day = [scene.visible.mean() for scene in scenes if scene.weather.sun[1] > 0.3 and not scene.weather.night]
    assert np.median(night) < 0.6 * np.median(day)


def test_counts_and_grey_levels(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert 0 < scene.thermal16.min() and scene.thermal16.max() < 2**14
        # White hot: grey rises with counts.
        order = np.corrcoef(scene.thermal16.ravel().astype(float), scene.thermal8.ravel().astype(float))
        assert order[0, 1] > 0.5
    spans = [int(scene.thermal8.max()) - int(scene.thermal8.min()) for scene in scenes]
    assert np.mean(np.array(spans) > 250) > 0.9


def test_another_size_shows_the_same_place() -> None:
    small, large = generate_scene(1, (96, 128)), generate_scene(1, (192, 256))
    agreement = (large.mask[::2, ::2] == small.mask).mean()
    assert agreement > 0.93


@pytest.mark.parametrize("size", [(32, 32), (97, 131), (128, 96)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    for seed in range(6):
        scene = generate_scene(seed, size)
        assert scene.thermal8.shape == scene.mask.shape == size
        assert scene.visible.shape == (*size, 3)


def test_bad_arguments() -> None:
    with pytest.raises(UnipError, match="seed is -1"):
        generate_scene(-1)
    with pytest.raises(UnipError, match="16x400 pixels is too small"):
        generate_scene(0, (16, 400))
