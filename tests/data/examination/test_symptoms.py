"""Each defect is found in made frames, and none in clean ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.data.examination.made import SIZE, frames, judge
from tests.data.examination.made import scene as scene_of
from unip.data.corruptions import CorruptFrames
from unip.data.examination.frames import measure_frame
from unip.data.examination.records import Box
from unip.data.examination.sensor_defects import beyond_texture, impulses
from unip.data.examination.symptoms import ADVICE, MAX_IMPULSES, SYMPTOMS, find_symptoms, kinds_of

# The symptom that tells a corruption; polarity cannot be told.
TOLD = {
    "temporal_noise": "noise",
    "fixed_pattern": "fixed pattern",
    "stripes": "stripes",
    "dead_pixels": "dead pixels",
    "defocus": "blur",
    "motion": "blur",
    "resolution": "blur",
    "low_contrast": "low contrast",
    "agc_pumping": "low contrast",
    "saturation": "empty levels",
    "jpeg": "compression",
    "fog": "low contrast",
    "rain": "low contrast",
}


def test_clean_frames_have_no_symptom():
    measures, (camera,), symptoms = judge(frames())
    assert not symptoms
    assert camera.told and not camera.dead_pixels and not camera.overlays and not any(camera.border)
    assert camera.pattern < 0.3
    assert np.median([one.noise for one in measures]) == pytest.approx(0.8, rel=0.25)


def test_every_symptom_has_its_advice():
    assert ADVICE.keys() == SYMPTOMS.keys()


@pytest.mark.parametrize("name", TOLD)
def test_corruptions_are_told(name):
    corrupt = CorruptFrames(name, 3, 1)
    symptoms = judge([corrupt(frame, i) for i, frame in enumerate(frames())])[2]
    assert TOLD[name] in symptoms
    assert symptoms[TOLD[name]].widespread


@pytest.mark.parametrize("sigma", [4.0, 8.0])
def test_noise_is_measured(sigma):
    rng = np.random.default_rng(0)
    noisy = [np.clip(np.rint(f + rng.normal(0, sigma, f.shape)), 0, 255).astype(np.uint8) for f in frames()]
    measures, (camera,), symptoms = judge(noisy)
    assert np.median([one.noise for one in measures]) == pytest.approx(sigma, rel=0.12)
    assert camera.pattern < 0.6  # it is new in each frame
    assert "noise" in symptoms and "fixed pattern" not in symptoms


def test_a_fixed_pattern_is_no_noise_and_is_measured():
    pattern = np.random.default_rng(0).normal(0, 5, SIZE)
    _, (camera,), symptoms = judge([np.rint(f + pattern).clip(0, 255).astype(np.uint8) for f in frames()])
    assert camera.pattern == pytest.approx(5, rel=0.12)
    assert "fixed pattern" in symptoms and "noise" not in symptoms


def test_few_dead_pixels_are_placed():
    images = frames()
    places = [(20, 30), (70, 5), (100, 101)]  # x, y; far fewer than single frames could be judged by
    for image in images:
        for x, y in places:
            image[y, x] = 255
    camera, symptoms = judge(images)[1][0], judge(images)[2]
    assert camera.dead == tuple(sorted(places, key=lambda place: place[1]))
    assert "3 pixels at the same place" in symptoms["dead pixels"].detail


def test_leaves_are_no_dead_pixels_of_a_frame():
    """Points one pixel large, each above all its neighbours, which differ as much; the same points in calm are dead."""
    rng = np.random.default_rng(5)
    places = [(y, x) for y in range(10, SIZE[0] - 10, 12) for x in range(10, SIZE[1] - 10, 12)]
    images = {name: frames(1)[0].astype(np.float32) for name in ("leaves", "calm")}
    for name, image in images.items():
        for y, x in places:
            around = rng.permutation(np.linspace(70, 140, 9) if name == "leaves" else np.linspace(100, 110, 9))
            image[y - 1 : y + 2, x - 1 : x + 2] = around.reshape(3, 3)
            image[y, x] = 180
    for name, image in images.items():
        levels = image.astype(np.uint8).astype(np.float32)
        found = impulses(levels, 24.0)
        assert found[tuple(np.transpose(places))].all()
        expected = 0
        for y, x in np.argwhere(found):
            others = np.delete(levels[y - 1 : y + 2, x - 1 : x + 2].ravel(), 4)
            margin = max(levels[y, x] - others.max(), others.min() - levels[y, x])
            expected += margin > others.max() - others.min()
        assert beyond_texture(levels, found) == expected
        assert (expected >= len(places)) == (name == "calm")
        measures = measure_frame(image.astype(np.uint8), "x")
        assert (measures.measures.impulses > MAX_IMPULSES) == (name == "calm")
    assert beyond_texture(levels, np.zeros_like(found)) == 0


def test_a_ragged_edge_is_no_dead_pixel():
    images = frames()
    for image in images:
        image[0] = np.random.default_rng(int(image[0, 0])).integers(0, 9, SIZE[1])  # dark, and nearly constant
        image[0, 50:52] = 0
    assert not judge(images)[1][0].dead


def test_dead_rows_and_columns():
    images = frames()
    for image in images:
        image[40], image[:, 7] = 0, 255
    camera = judge(images)[1][0]
    assert camera.dead_lines == ("row 40", "column 7")
    assert camera.border == (0, 0, 0, 0) and not camera.overlays


def test_an_overlay_is_placed():
    images = frames()
    logo = np.random.default_rng(0).integers(0, 2, (10, 24), dtype=np.uint8) * 255
    for image in images:
        image[8:18, 100:124] = logo
        image[60, 70:90] = image[50:70, 80] = 255  # a crosshair
    camera, symptoms = judge(images)[1][0], judge(images)[2]
    assert Box(100, 8, 24, 10) in camera.overlays
    assert any(box.x <= 72 and box.x + box.width >= 88 and box.y <= 55 for box in camera.overlays)
    assert symptoms["overlay"].widespread and not camera.dead_pixels


def test_a_black_border():
    images = frames()
    for image in images:
        image[:5], image[:, -9:] = 0, 0
    camera, symptoms = judge(images)[1][0], judge(images)[2]
    assert camera.border == (5, 9, 0, 0)
    assert symptoms["border"].detail == "5 pixels at the top, 9 pixels at the right"
    assert not camera.dead_lines and not camera.overlays


def test_frozen_frames():
    images = frames()
    images[4] = images[5] = images[3]
    symptoms = judge(images)[2]
    assert symptoms["frozen"].frames == ("set/4.png", "set/5.png")


def test_equal_frames_of_different_folders_are_not_frozen():
    one = judge(frames(1))[0][0]
    found = find_symptoms([one, replace(one, path="other/0.png", folder="other")], [])
    assert "frozen" not in {symptom.kind for symptom in found}


def test_a_scene_that_stands_still_is_said_to_be_one():
    rng = np.random.default_rng(0)
    still = scene_of(0)
    camera = judge([np.rint(still + rng.normal(0, 1, SIZE)).clip(0, 255).astype(np.uint8) for _ in range(10)])[1][0]
    assert not camera.told and "hardly changes" in camera.reason and not camera.overlays
    assert judge(frames(4))[1][0].reason.startswith("4 different frames")


def still_frames(count: int = 10) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    still = scene_of(0) * 1.2 - 20  # partly black and white
    return [np.rint(still + rng.normal(0, 2, SIZE)).clip(0, 255).astype(np.uint8) for _ in range(count)]


def test_what_is_burnt_into_a_still_scene():
    images = still_frames()
    camera = judge(images)[1][0]
    assert not camera.told and not camera.overlays and not any(camera.border)
    for image in images:
        image[8:18, 100:124] = np.random.default_rng(0).integers(1, 3, (10, 24)) * 100
        image[:6], image[-6:] = 0, 0
    camera, symptoms = judge(images)[1][0], judge(images)[2]
    assert camera.overlays == (Box(100, 8, 24, 10),) and camera.border == (6, 0, 6, 0)
    assert symptoms["overlay"].widespread and symptoms["border"].widespread


def test_a_black_sky_of_a_still_scene_is_no_border():
    images = still_frames()
    for image in images:
        for column, height in enumerate(np.random.default_rng(0).integers(4, 30, SIZE[1])):
            image[:height, column] = 0  # above trees
    assert not any(judge(images)[1][0].border)


def test_rows_of_a_scene_are_no_stripes():
    """Rows of panels, seen askew, lie at other heights on the left than on the right."""
    images = frames()
    for number, image in enumerate(images):
        for column in range(SIZE[1]):
            image[(np.arange(SIZE[0]) + column // 7 + number) % 9 < 2, column] = 30
    assert "stripes" not in judge(images)[2]
    rows = np.random.default_rng(0).normal(0, 4, (SIZE[0], 1))
    assert "stripes" in judge([np.rint(f + rows).clip(0, 255).astype(np.uint8) for f in frames()])[2]


def test_a_frame_that_reaches_one_end_of_the_range_has_contrast():
    image = frames(1)[0].astype(float)
    for low, high, lacking in ((0, 130, False), (125, 255, False), (60, 200, True), (70, 180, True), (20, 235, False)):
        levels = np.rint(np.interp(image, (image.min(), image.max()), (low, high))).astype(np.uint8)
        levels[5, 5] = 255 - levels[5, 5] // 128 * 255  # a dead pixel says nothing
        assert ("low contrast" in judge([levels])[2]) == lacking, (low, high)


def test_a_camera_that_blurs_is_judged_as_one():
    """A frame that would pass by itself is told where the median frame of the camera is blurred, and only there."""
    clear, blurred = (replace(judge(frames(1))[0][0], smoothness=value) for value in (1.0, 3.0))
    blurred = replace(blurred, smear=0.0, edge_width=2.0)
    doubtful = replace(blurred, smoothness=2.5)
    assert kinds_of([doubtful] + [clear] * 9)[0] == set() and kinds_of([doubtful])[0] == set()
    assert kinds_of([doubtful] + [blurred] * 9)[0] == {"blur"}
    elsewhere = [replace(blurred, folder="other")] * 9
    assert kinds_of([doubtful, *elsewhere])[0] == set()


def test_coloured_marks_and_colours():
    coloured = np.repeat(frames(1)[0][..., None], 3, axis=2)
    coloured[5:10, 5:40] = (0, 255, 0)
    assert "coloured marks" in judge([coloured])[2]
    rng = np.random.default_rng(0)
    photo = np.stack([np.rint(scene_of(seed)).astype(np.uint8) for seed in range(3)], axis=-1)
    photo[..., 0] = np.roll(photo[..., 0], rng.integers(10, 50), axis=1)
    assert "colour" in judge([photo])[2]


def test_16_bit_frames_are_judged_as_8_bit_ones():
    rng = np.random.default_rng(0)
    counts = [(7000 + 8 * scene_of(seed) + rng.normal(0, 2, SIZE)).astype(np.uint16) for seed in range(12)]
    assert not judge(counts)[2]
    for frame in counts:
        frame[33, 44] = 16383
    assert judge(counts)[1][0].dead == ((44, 33),)


@pytest.mark.parametrize(
    "image", [np.full((32, 40), 90, np.uint8), np.zeros((3, 5), np.uint16), np.eye(2, dtype=np.uint8)]
)
def test_frames_without_content_or_size(image):
    measures = judge([image] * 2)[0]
    assert measures[0].noise is None or measures[0].noise < 1e-3 or image.shape[0] < 4
    assert measures[0].edge_width is None or image.shape[0] < 4


def test_missing_temperatures_do_no_harm():
    kelvin = (280 + scene_of(0) / 10).astype(np.float32)
    kelvin[:20, :20] = np.nan
    measures = judge([kelvin])[0][0]
    assert 280 < measures.low < measures.high < 305
