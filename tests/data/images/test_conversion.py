"""From counts to 8-bit grey, checked against float64 formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unip.data.images.config import Conversion
from unip.data.images.conversion import DEFAULT, grey8, plateau_curve
from unip.data.images.decoding import read_grey8, read_image8, to_grey8
from unip.data.synthetic.generator import generate_scene
from unip.errors import UnipError

RNG = np.random.default_rng(0)
COUNTS = np.clip(RNG.normal(8000, 150, (48, 64)), 0, 2**14 - 1).astype(np.uint16)  # 14 bits in 16
COUNTS[4:8, 4:8] = 9500
GREY = RNG.integers(0, 256, (12, 16), dtype=np.uint8)
PLATEAU = Conversion(method="plateau")
CONVERSIONS = [
    DEFAULT,
    Conversion(percentiles=(5, 90)),
    Conversion(method="minmax"),
    PLATEAU,
    Conversion(method="plateau", plateau=1),
    Conversion(method="window", window=(7500, 8500)),
    Conversion(method="window", window=(7500, 8500), polarity="black-hot"),
]


def test_the_default_is_what_it_always_was() -> None:
    low, high = np.percentile(COUNTS.astype(np.float64), (0.5, 99.5))
    expected = np.clip((COUNTS.astype(np.float64) - low) / (high - low) * 255, 0, 255)
    assert np.abs(grey8(COUNTS) - expected).max() <= 0.51
    np.testing.assert_array_equal(grey8(COUNTS), to_grey8(COUNTS))
    assert grey8(GREY) is GREY


@pytest.mark.parametrize("frame", [COUNTS, COUNTS.astype(np.float32)])
def test_minmax_and_window(frame: np.ndarray) -> None:
    low, high = float(COUNTS.min()), float(COUNTS.max())
    expected = (COUNTS - low) / (high - low) * 255
    assert np.abs(grey8(frame, Conversion(method="minmax")) - expected).max() <= 0.51
    window = np.clip((COUNTS - 7500.0) / 1000 * 255, 0, 255)
    assert np.abs(grey8(frame, Conversion(method="window", window=(7500, 8500))) - window).max() <= 0.51


def test_a_window_is_the_same_in_every_frame() -> None:
    conversion = Conversion(method="window", window=(280, 320))
    frame = np.full((4, 4), 300, np.float32)
    other = frame.copy()
    other[0, 0] = 1000
    assert grey8(frame, conversion)[1, 1] == grey8(other, conversion)[1, 1] == 128
    assert grey8(other, conversion)[0, 0] == 255


@pytest.mark.parametrize("plateau", [0.0005, 0.003, 0.02, 1.0])
def test_plateau_equalisation_follows_its_formula(plateau: float) -> None:
    """Within 2/256 of the percentiles' span, a bin is one count: the histogram can be taken count by count."""
    counts = np.clip(RNG.normal(8000, 60, (48, 64)), 0, 2**14 - 1).astype(np.uint16)
    low, high = np.percentile(counts.astype(np.float64), (0.5, 99.5))
    levels = np.arange(counts.min(), counts.max() + 1)
    held = np.array([(counts == level).sum() for level in levels], dtype=np.float64)
    assert 256 < high - low < 512
    cut = np.minimum(held, plateau * counts.size * 256 / (high - low))
    centre = (np.cumsum(cut) - cut / 2) / cut.sum() * 255  # a count lies in the middle of its bin
    expected = np.interp(counts, levels, centre)
    got = grey8(counts, Conversion(method="plateau", plateau=plateau))
    assert np.abs(got - expected).max() <= 0.51


def test_a_large_plateau_is_histogram_equalisation() -> None:
    got = grey8(COUNTS, Conversion(method="plateau", plateau=1))
    held = np.bincount(got.ravel(), minlength=256)
    assert abs(got.mean() - 127.5) < 3
    assert np.abs(np.cumsum(held) / held.sum() - np.arange(1, 257) / 256).max() < 0.02


def test_plateau_keeps_small_hot_things_apart_and_their_rest_undisturbed() -> None:
    """Glowing pixels take the range from min-max; a plateau gives them the last levels only."""
    frame = COUNTS.copy()
    frame[20, 20], frame[20, 40] = 15000, 16000
    plateau, rest = grey8(frame, PLATEAU), frame < 9000
    assert plateau[20, 40] >= plateau[20, 20] > plateau[5, 5] > plateau[rest].max()
    assert plateau[rest].std() > 4 * grey8(frame, Conversion(method="minmax"))[rest].std()


def test_plateau_lifts_contrast_of_a_scene_but_less_than_equalisation() -> None:
    counts = generate_scene(42, (96, 128)).thermal16
    spread = [
        grey8(counts, conversion).std() for conversion in (DEFAULT, PLATEAU, Conversion(method="plateau", plateau=1))
    ]
    assert spread[0] < spread[1] < spread[2]
    assert len(np.unique(grey8(counts, PLATEAU))) > 100


def test_plateau_of_very_wide_and_very_narrow_frames() -> None:
    wide = np.full((64, 64), 1000, np.uint16)
    wide[0, 0], wide[0, 1] = 0, 65535
    got = grey8(wide, PLATEAU)
    assert got[0, 0] < got[5, 5] < got[0, 1]
    values, levels = plateau_curve(np.float32([[250, 250.0001], [250, 4000]]), PLATEAU)
    assert len(values) <= 65538 and levels[-1] == pytest.approx(255)
    two = np.array([[5, 5], [5, 6]], np.uint16)
    assert grey8(two, PLATEAU)[1, 1] > grey8(two, PLATEAU)[0, 0]


@given(
    values=st.lists(st.integers(0, 65535), min_size=4, max_size=40),
    conversion=st.sampled_from([r for r in CONVERSIONS if r.polarity == "white-hot"]),
)
def test_hotter_is_never_darker(values: list[int], conversion: Conversion) -> None:
    frame = np.array([sorted(values)], np.uint16)
    assert (np.diff(grey8(frame, conversion)[0].astype(int)) >= 0).all()
    assert (np.diff(grey8(frame.astype(np.float32), conversion)[0].astype(int)) >= 0).all()


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_black_hot_is_inverted(conversion: Conversion) -> None:
    turned = conversion.model_copy(update={"polarity": "black-hot"})
    straight = conversion.model_copy(update={"polarity": "white-hot"})
    for frame in (COUNTS, GREY, np.repeat(GREY[..., None], 3, 2)):
        np.testing.assert_array_equal(grey8(frame, turned), 255 - grey8(frame, straight))


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_frames_without_contrast_and_without_numbers(conversion: Conversion) -> None:
    straight = conversion.model_copy(update={"polarity": "white-hot"})
    flat = grey8(np.full((4, 4), 8000, np.uint16), straight)
    assert (flat == (128 if conversion.method == "window" else 0)).all()
    assert not grey8(np.full((4, 4), np.nan, np.float32), straight).any()
    broken = np.full((4, 4), np.inf, np.float32)
    broken[1] = (8000, 8100, 8200, 8300)
    assert grey8(broken, straight)[0, 0] == grey8(broken, straight)[1, 0]


def test_eight_bits_keep_their_contrast() -> None:
    for conversion in CONVERSIONS[:-1]:
        np.testing.assert_array_equal(grey8(GREY, conversion), GREY)


def test_reading_files(tmp_path: Path) -> None:
    Image.fromarray(COUNTS).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", COUNTS)
    for conversion in CONVERSIONS:
        for name in ("a.png", "a.tif"):
            np.testing.assert_array_equal(read_image8(tmp_path / name, conversion), grey8(COUNTS, conversion))
            np.testing.assert_array_equal(read_grey8(tmp_path / name, conversion), grey8(COUNTS, conversion))
    colour = np.dstack([COUNTS, COUNTS // 2, COUNTS // 3])
    tifffile.imwrite(tmp_path / "rgb.tif", colour, photometric="rgb")
    window = Conversion(method="window", window=(0, 16383), polarity="black-hot")
    expected = np.clip(colour / 16383.0 * 255, 0, 255)
    assert np.abs(read_image8(tmp_path / "rgb.tif", window) - expected).max() <= 0.51  # colours are not inverted
    assert read_image8(tmp_path / "rgb.tif", PLATEAU).shape == colour.shape


def test_json_there_and_back() -> None:
    for conversion in CONVERSIONS:
        assert Conversion.from_json(conversion.as_json()) == conversion
    assert Conversion.from_json(None) == Conversion.from_json("") == DEFAULT
    assert Conversion.from_json('{"polarity": "black-hot"}') == Conversion(polarity="black-hot")
    for bad in ("{", "[1]", '{"plateua": 1}', '{"plateau": 3}'):
        with pytest.raises(UnipError, match="conversion"):
            Conversion.from_json(bad)


@pytest.mark.parametrize(
    "values",
    [
        {"method": "window"},
        {"window": (1, 2)},
        {"method": "window", "window": (2, 1)},
        {"method": "window", "window": (0, float("inf"))},
        {"method": "window", "window": (float("nan"), 1)},
        {"percentiles": (60, 40)},
        {"percentiles": (0, 101)},
        {"plateau": 0},
        {"method": "clahe"},
        {"polarity": "hot"},
    ],
)
def test_impossible_readings_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(UnipError):
        Conversion.make(**values)


def test_describe_says_the_rule() -> None:
    assert DEFAULT.describe() == "percentiles 0.5..99.5 stretched to black..white, white-hot"
    assert "0.3 %" in PLATEAU.describe()
    said = Conversion(method="window", window=(280, 320), polarity="black-hot").describe()
    assert "280..320" in said and "black-hot inverted" in said
    assert "temperatures" in Conversion(radiometric=True).describe()
