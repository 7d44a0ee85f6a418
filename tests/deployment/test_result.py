"""What a result tells of its mask."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from PIL import Image

from unip.data.images.orientation import as_shown, orientation_of, save_options
from unip.data.labelled.classes import Classes
from unip.deployment.polygons import signed_area
from unip.deployment.result import Result, Timings
from unip.errors import UnipError

CLASSES = Classes(("background", "hot", "cold"))


def make(mask, path=None, **more) -> Result:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, mask.shape, np.uint8)
    values = {"found_confidence": rng.uniform(0.3, 1, mask.shape).astype(np.float32), **more}
    return Result(mask, CLASSES, image, "frame 0", path, Timings(0.1, 0.2), **values)


def noise(size=(24, 31), seed=0) -> np.ndarray:
    """A mask of blobs, with holes and pixels that touch at corners."""
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 3, (size[0] // 3, size[1])), np.ones((3, 1))).astype(np.uint8)


def test_labels_and_summary():
    mask = np.zeros((10, 10), np.uint8)
    mask[:2] = 2
    mask[5, 5] = 255
    kelvin = np.full((10, 10), 300, np.float32)
    kelvin[0, 0], kelvin[1, 1] = 310, np.nan
    result = make(mask, given_kelvin=kelvin, risk=0.05)
    assert result.labels == ("background", "cold")
    first, second = result.summary()
    assert (first.name, first.class_id, first.pixels, first.share) == ("background", 0, 79, 0.79)
    assert second.confidence == pytest.approx(result.confidence[mask == 2].mean())
    assert (second.kelvin_min, second.kelvin_max) == (300, 310)
    assert second.kelvin_mean == pytest.approx((18 * 300 + 310) / 19)
    assert result.unknown_share == 0.01
    assert repr(result) == "Result(frame 0, 10x10: background 79.0 %, cold 20.0 %, not sure enough 1.0 %)"


def test_what_was_not_computed_is_said():
    result = make(noise(), found_confidence=None)
    with pytest.raises(UnipError, match="confidence of frame 0 was not computed"):
        result.confidence  # noqa: B018
    with pytest.raises(UnipError, match="probabilities of frame 0 were not kept") as caught:
        result.probabilities  # noqa: B018
    assert "probabilities=True" in caught.value.fix
    assert result.kelvin is None and result.summary()[0].confidence is None


@pytest.mark.parametrize("seed", range(4))
def test_polygons_hold_the_centres_of_their_pixels_and_no_others(seed):
    mask = noise(seed=seed)
    rows, columns = np.indices(mask.shape)
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    drawn = np.zeros(mask.shape, np.uint8)
    for polygon in make(mask).polygons():
        inside = Outline(polygon.outline).contains_points(centres)
        for hole in polygon.holes:
            inside &= ~Outline(hole).contains_points(centres)
        drawn[inside.reshape(mask.shape)] = polygon.class_id
        assert np.array_equal(polygon.outline[0], polygon.outline[-1])
        assert polygon.name == CLASSES.names[polygon.class_id] != "background"
        assert polygon.area == pytest.approx(inside.sum(), rel=0.5)
    np.testing.assert_array_equal(drawn, mask)


def test_areas_of_polygons():
    mask = np.zeros((20, 20), np.uint8)
    mask[2:12, 3:9] = 1
    mask[5:8, 5:7] = 0
    mask[15, 15] = 1
    large, small = sorted(make(mask).polygons(), key=lambda polygon: -polygon.area)
    assert large.area == 60 - 4 / 8 - (6 - 4 / 8)  # corners are cut
    assert len(large.holes) == 1 and small.area == 0.5
    assert signed_area(large.outline[::-1]) == -signed_area(large.outline)
    assert len(make(mask).polygons(min_area=1)) == 1
    assert large.outline.min() == 2.0 and large.outline[:, 0].max() == 9.0


def test_a_mask_is_saved_as_ids(tmp_path):
    result = make(noise())
    path = result.save(tmp_path / "new" / "m.png")
    saved = Image.open(path)
    assert saved.mode == "P"
    np.testing.assert_array_equal(np.asarray(saved), result.mask)
    assert tuple(saved.getpalette()[3:6]) == CLASSES.palette[1]
    with pytest.raises(UnipError, match="exists") as caught:
        result.save(path)
    assert "overwrite=True" in caught.value.fix
    make(noise(seed=5)).save(path, overwrite=True)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), noise(seed=5))
    with pytest.raises(UnipError, match="saved as PNG"):
        result.save(tmp_path / "m.jpg")


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_turned_file_has_a_turned_picture_and_mask(tmp_path, orientation):
    Image.fromarray(np.zeros((24, 31), np.uint8)).save(tmp_path / "a.png", **save_options(orientation))
    plain, turned = make(noise()), make(noise(), path=tmp_path / "a.png")
    assert orientation_of(Image.open(turned.save(tmp_path / "m.png"))) == orientation
    np.testing.assert_array_equal(
        np.asarray(turned.plot(legend=False)), as_shown(np.asarray(plain.plot(legend=False)), orientation)
    )
    assert turned.plot().height > turned.plot(legend=False).height


def test_it_shows_itself_and_travels():
    result = make(noise(), notes=("frame 0 is <strange>.",))
    assert Image.open(io.BytesIO(result._repr_png_())).width == 31
    html = result._repr_html_()
    assert "data:image/png;base64," in html and "&lt;strange&gt;" in html and "(not calibrated)" in html
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.mask, result.mask)
