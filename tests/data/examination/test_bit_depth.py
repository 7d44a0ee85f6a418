"""What the numbers are, and the polarity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.data.examination.made import SIZE, frames, scene
from unip.data.examination.bit_depth import numbers_of
from unip.data.examination.frames import measure_frame
from unip.data.examination.polarity import guess_polarity
from unip.data.examination.records import Numbers
from unip.data.images.palettes import known_palettes


def numbers(images: list[npt.NDArray]) -> Numbers:
    readings = [measure_frame(image, f"{number}.png") for number, image in enumerate(images)]
    used = np.any([reading.used for reading in readings], axis=0)
    return numbers_of([one.measures for one in readings], {readings[0].measures.sample: used})


def ramp(low: int, high: int, step: int = 1) -> npt.NDArray[np.uint16]:
    """A frame with all values of a range."""
    values = np.arange(low, high + 1, step, dtype=np.uint16)
    return np.resize(values, (max(8, -(-len(values) // 128)), 128))


@pytest.mark.parametrize(
    ("frame", "bits", "step"),
    [
        (ramp(0, 16383), 14, 1),
        (ramp(100, 4000), 12, 1),
        (ramp(0, 65532, 4), 14, 4),  # shifted to the left
        (ramp(2, 1022, 4), 8, 4),
        (ramp(5000, 60000), 16, 1),
    ],
)
def test_real_bits(frame, bits, step):
    found = numbers([frame])
    assert (found.real_bits, found.step, found.stored_bits) == (bits, step, 16)


def test_counts_and_pictures_in_16_bit():
    assert numbers([ramp(7000, 9000)]).kind == "counts"
    picture = numbers([ramp(0, 65535, 257)])
    assert picture.kind == "preview" and picture.real_bits == 8


def test_temperatures_by_their_size():
    kelvin = (285 + scene(0) / 10).astype(np.float32)
    for values, unit, kind in [
        (kelvin, "K", "temperatures"),
        (kelvin - 273.15, "°C", "temperatures"),
        (scene(0) / 255, "counts", "counts"),
        (scene(0) * 30, "counts", "counts"),
    ]:
        found = numbers([values.astype(np.float32)])
        assert (found.unit, found.kind, found.real_bits) == (unit, kind, None)
    centi = numbers([np.rint(100 * kelvin).astype(np.uint16)])
    assert centi.unit == "0.01 K" and "if the camera writes temperatures" in centi.why


def test_stretched_levels_are_counted():
    few = numbers([frame >> 3 << 3 for frame in frames(3)])
    assert few.kind == "preview" and few.real_bits == 5
    assert "have no pixel" in few.detail
    assert numbers(frames(3)).real_bits == 8


def test_polarity_is_not_guessed_from_grey_pixels():
    measures = [measure_frame(frame, "a.png").measures for frame in frames(4)]
    guess = guess_polarity(measures, numbers(frames(4)))
    assert guess.polarity is None and "cannot be told" in guess.why and "--polarity black-hot" in guess.why


def test_negatives_of_frames_are_mixed_polarity():
    images = [*frames(4), *(255 - frame for frame in frames(4))]
    measures = [measure_frame(frame, "a.png").measures for frame in images]
    assert guess_polarity(measures, numbers(images)).polarity == "mixed"


def test_palettes_are_white_hot_by_convention():
    iron = next(palette for palette in known_palettes() if palette.name == "inferno")
    images = [np.rint(iron.colours).astype(np.uint8)[frame] for frame in frames(3)]
    measures = [measure_frame(image, "a.png").measures for image in images]
    assert [one.palette for one in measures] == ["inferno"] * 3
    guess = guess_polarity(measures, numbers(images))
    assert guess.polarity == "white-hot" and not guess.certain


def test_temperatures_are_certain():
    kelvin = np.full(SIZE, 290, np.float32) + scene(0).astype(np.float32)
    measures = [measure_frame(kelvin, "a.tif").measures]
    assert guess_polarity(measures, numbers([kelvin])).certain
