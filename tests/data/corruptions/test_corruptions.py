from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from unip.data.corruptions import CORRUPTIONS, CorruptFrames, corrupt_some, parse_corruptions
from unip.runtime.seeds import seed_for

NAMES = sorted(CORRUPTIONS)
SWITCHES = {"polarity"}  # has no degrees


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """A thermal scene, 96 x 120: a smooth background, a dark and a bright object, texture."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(70, 150, (6, 8), dtype=np.uint8))
    image = np.asarray(small.resize((120, 96), Image.Resampling.BICUBIC)).astype(np.float64)
    image[20:34, 30:40], image[50:60, 70:95], image[70:72, 10:110] = 220, 40, 180
    image = np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
    image.setflags(write=False)  # nothing may write to it
    return image


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_a_worse_severity_is_farther_from_the_clean_image(name, seed, frame):
    found = [distance(CORRUPTIONS[name](frame, severity, seed), frame) for severity in range(6)]
    assert found[0] == 0.0
    if name in SWITCHES:
        assert len(set(found[1:])) == 1 and found[1] > 10
    else:
        assert all(b > 1.1 * a for a, b in pairwise(found)), found


@pytest.mark.parametrize("name", NAMES)
def test_pure(name, frame):
    corruption = CORRUPTIONS[name]
    assert corruption(frame, 0) is frame
    once, again = corruption(frame, 3, 5), corruption(frame, 3, 5)
    assert once.dtype == np.uint8 and once.shape == frame.shape and once is not frame
    np.testing.assert_array_equal(once, again)
    three = corruption(np.repeat(frame[..., None], 3, axis=2), 3, 5)
    np.testing.assert_array_equal(three, np.repeat(once[..., None], 3, axis=2))
    colours = np.stack([frame, frame, 255 - frame], axis=-1)
    assert corruption(colours, 3, 5).shape == (96, 120, 3)
    np.testing.assert_array_equal(corruption(colours, 3, 5)[..., 1], once)
    for severity in (-1, 6):
        with pytest.raises(ValueError, match=f"severity is {severity}"):
            corruption(frame, severity)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 3)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_tiny_and_flat_frames(name, size, level):
    for severity in (1, 5):
        out = CORRUPTIONS[name](np.full(size, level, np.uint8), severity, 1)
        assert out.shape == size and out.dtype == np.uint8


def test_what_is_of_the_camera_stays_and_the_rest_changes_with_each_frame(frame):
    kept = {
        name
        for name in NAMES
        if np.array_equal(CorruptFrames(name, 3, 9)(frame, 0), CorruptFrames(name, 3, 9)(frame, 1))
    }
    drawn_for_each = {"temporal_noise", "motion", "agc_pumping", "fog", "rain"}
    assert kept == set(NAMES) - drawn_for_each
    for name in ("fixed_pattern", "stripes", "dead_pixels"):
        other = CorruptFrames(name, 3, 10)(frame, 0)
        assert CORRUPTIONS[name].per_camera and not np.array_equal(other, CorruptFrames(name, 3, 9)(frame, 0))


def test_reading_what_a_user_asks_for():
    assert parse_corruptions(()) == ()
    assert parse_corruptions(("fog", "jpeg:5", "fog:3"), 4) == (CorruptFrames("fog", 3, 4), CorruptFrames("jpeg", 5, 4))
    assert [str(each) for each in parse_corruptions(("all:2",))] == [f"{name}:2" for name in CORRUPTIONS]
    assert len(parse_corruptions(("all", "all:5", "rain"))) == 2 * len(CORRUPTIONS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fogg", "unknown corruption 'fogg'; did you mean fog?"),
        ("zzz:3", "Known: all, temporal_noise"),
        ("fog:6", "severity of fog must be 1, 2, 3, 4 or 5"),
        ("fog:", "severity of fog must be"),
        ("all:0", "severity of all must be"),
        ("", "unknown corruption ''"),
    ],
)
def test_what_cannot_be_read(text, message):
    with pytest.raises(ValueError, match=message):
        parse_corruptions((text,))


def test_training_corrupts_with_the_probability_and_mildly(frame):
    seeds = [seed_for(3, position) for position in range(300)]
    done = [corrupt_some(frame, 0.3, seed) for seed in seeds]
    share = np.mean([out is not frame for out in done])
    assert 0.22 < share < 0.38
    np.testing.assert_array_equal(done[7], corrupt_some(frame, 0.3, seeds[7]))
    assert all(corrupt_some(frame, 0.0, seed) is frame for seed in seeds)
    # a larger probability adds to those that were corrupted and leaves these alike
    np.testing.assert_array_equal(
        next(out for out in done if out is not frame),
        corrupt_some(frame, 1.0, next(s for s, out in zip(seeds, done, strict=True) if out is not frame)),
    )
    worst = max(distance(corruption(frame, 3, 1), frame) for corruption in CORRUPTIONS.values())
    assert max(distance(out, frame) for out in done) < 1.6 * worst
