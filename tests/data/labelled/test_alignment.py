import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.alignment import Shift, edge_fit, frame_shifts, label_borders, misfit, set_shift

SIZE = (160, 200)  # so that a cell is a pixel


def pair(seed, size=SIZE):
    """A frame with areas of four levels, and the mask of the areas."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 10), dtype=np.uint8))
    mask = np.array(small.resize(size[::-1], Image.Resampling.BICUBIC)) // 64
    frame = np.array([60, 90, 130, 180])[mask] + rng.normal(0, 4, size)
    return np.clip(frame, 0, 255).astype(np.uint8), mask


def moved(mask, right, down):
    rows = np.clip(np.arange(mask.shape[0]) - down, 0, mask.shape[0] - 1)
    columns = np.clip(np.arange(mask.shape[1]) - right, 0, mask.shape[1] - 1)
    return mask[rows][:, columns]


def fit(seed, right=0, down=0, size=SIZE):
    frame, mask = pair(seed, size)
    return edge_fit(frame, moved(mask, right, down))


def test_masks_that_fit_are_not_reported():
    fits = [fit(seed) for seed in range(12)]
    assert set_shift(fits) is None and frame_shifts(fits) == {}


@pytest.mark.parametrize(("right", "down"), [(6, 0), (0, -6), (-9, 4), (8, 8)])
def test_a_shifted_frame_is_found_among_others_with_its_shift(right, down):
    fits = [fit(seed) for seed in range(11)]
    fits[4] = fit(4, right, down)
    found = frame_shifts(fits)
    assert list(found) == [4]
    assert (found[4].right, found[4].down) == (-right, -down) and 0.15 < found[4].gain <= 1
    assert set_shift(fits) is None


def test_a_set_that_is_shifted_as_a_whole_is_found_as_one():
    fits = [fit(seed, 7, -5) for seed in range(10)]
    shift = set_shift(fits)
    assert shift is not None and (shift.right, shift.down) == (-7, 5)
    assert frame_shifts(fits) == {}


def test_large_frames_are_measured_in_coarser_cells():
    size = (480, 640)
    fits = [fit(seed, 10, 0, size) for seed in range(8)]
    assert fits[0].cell == 2
    shift = set_shift(fits)
    assert shift is not None and abs(shift.right + 10) <= 2 and abs(shift.down) <= 2


def test_nothing_is_said_of_masks_that_follow_no_edges():
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, SIZE, dtype=np.uint8) for _ in range(12)]
    fits = [edge_fit(frame, pair(seed)[1]) for seed, frame in enumerate(noise)]
    assert set_shift(fits) is None and frame_shifts(fits) == {}


def test_nothing_is_said_of_few_frames():
    assert set_shift([fit(seed, 8, 0) for seed in range(7)] + [None] * 5) is None


def test_frames_that_tell_nothing():
    frame, mask = pair(1)
    assert edge_fit(np.full_like(frame, 7), mask) is None  # flat
    assert edge_fit(frame, np.zeros_like(mask)) is None  # no borders
    assert edge_fit(frame[:40], mask[:40]) is None  # small
    assert edge_fit(frame, np.where(mask == 1, 255, 1).astype(np.uint8)) is None  # borders of what has no label


def test_borders_are_marked_on_both_sides():
    mask = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
    assert (label_borders(mask) // 255).tolist() == [[0, 1, 1, 0], [0, 1, 1, 0]]


def test_misfit_is_higher_for_a_shifted_mask():
    assert misfit(fit(3, 10, 0)) > misfit(fit(3))


def test_shift_in_words():
    assert str(Shift(right=-6, down=2, gain=1)) == "6 px left and 2 px down"
    assert str(Shift(right=0, down=-4, gain=1)) == "4 px up"


def test_masks_of_other_frames_are_not_called_shifted():
    """A shift is only said where it is sure, whatever the frames show."""
    for first in range(0, 1000, 100):
        fits = [edge_fit(pair(seed)[0], pair(seed + 50)[1]) for seed in range(first, first + 10)]
        assert set_shift(fits) is None and frame_shifts(fits) == {}
