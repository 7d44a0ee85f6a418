import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.classes import Classes
from unip.data.labelled.overlay import add_legend, draw_overlay, outlines, palette_image, tinted

CLASSES = Classes(("background", "person", "car"), palette=((0, 0, 0), (255, 0, 0), (0, 0, 255)))


def test_mask_file_holds_ids_and_colours(tmp_path):
    mask = np.array([[0, 1], [2, 1]], np.uint8)
    palette_image(mask, CLASSES).save(tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), mask)
        assert np.asarray(image.convert("RGB"))[1, 0].tolist() == [0, 0, 255]


def test_overlay_tints_objects_and_leaves_the_rest():
    image = np.full((8, 8, 3), 100, np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    mask[2:7, 2:7] = 1
    mask[0, 0] = 255
    shown = draw_overlay(image, mask, CLASSES, alpha=0.4)
    assert shown[4, 4].tolist() == [162, 60, 60]  # 100 x 0.6 + colour x 0.4
    assert shown[2, 4].tolist() == [255, 0, 0]  # the outline is opaque
    assert (shown[mask != 1] == 100).all()
    assert (image == 100).all()
    named = Classes(("road", "person"), palette=((0, 255, 0), (255, 0, 0)))
    assert draw_overlay(image, mask, named, alpha=1.0)[7, 0].tolist() == [0, 255, 0]  # class 0 is no background here


def test_a_background_that_is_not_the_first_class_is_left_as_it_is():
    last = Classes(("person", "car", "Background"), palette=((255, 0, 0), (0, 0, 255), (0, 255, 0)))
    image, mask = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8), 2, np.uint8)
    mask[2:7, 2:7] = 0
    shown = draw_overlay(image, mask, last, alpha=1.0)
    assert (shown[mask == 2] == 100).all() and shown[4, 4].tolist() == [255, 0, 0]
    assert tinted(np.array([5, 0, 9]), last) == [0]


def test_outlines_are_both_sides_of_a_border():
    assert outlines(np.array([[0, 0, 1, 1]], np.uint8)).tolist() == [[False, True, True, False]]
    assert not outlines(np.ones((3, 3), np.uint8)).any()


def test_legend_names_what_is_tinted():
    assert tinted(np.array([5, 0, 2]), CLASSES) == [2]
    assert tinted(np.array([5, 0, 0]), CLASSES) == [0]
    assert tinted(np.array([5, 1]), Classes(("road", "person"))) == [0, 1]


def test_legend_is_below_and_wraps():
    image = np.zeros((20, 120, 3), np.uint8)
    one = add_legend(image, CLASSES, [1])
    assert (one[:20] == 0).all() and one.shape[1] == 120
    assert (one[20:] == (255, 0, 0)).all(-1).any() and not (one[20:] == (0, 0, 255)).all(-1).any()
    many = Classes(tuple(f"class number {i}" for i in range(9)))
    assert add_legend(image, many, list(range(9))).shape[0] > one.shape[0]


@pytest.mark.parametrize("alpha", [0.0, 0.37, 0.5, 1.0])
@pytest.mark.parametrize("grey", [True, False])
def test_every_level_of_every_class_is_tinted_by_the_formula(grey, alpha):
    """Against float64 over the whole picture, for frames that are tinted everywhere and hardly, of 255 too."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 80) if grey else (64, 80, 3), dtype=np.uint8)
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (16, 20)).repeat(4, 0).repeat(4, 1)
    for names, background in ((("background", "a", "b"), 0), (("a", "b", "c"), None)):
        classes = Classes(names)
        colours = np.zeros((256, 3))
        colours[:3] = classes.palette
        shown = (mask < 3) & (mask != background)
        strength = np.where(outlines(mask), 1.0, alpha)[..., None] * shown[..., None]
        stacked = np.repeat(image[..., None], 3, 2) if grey else image
        expected = np.round(stacked * (1 - strength) + colours[mask] * strength)
        found = draw_overlay(image, mask, classes, alpha=alpha)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("names", [("background", "a", "b"), ("a", "b", "c"), ("a", "b", "Background")])
@pytest.mark.parametrize("colour", [False, True])
def test_overlays_are_those_of_the_formula(names, colour):
    """Pixel by pixel in float64, of ids that are no classes, too, and over several blocks of rows."""
    rng = np.random.default_rng(0)
    classes = Classes(names, palette=((10, 200, 30), (255, 0, 5), (0, 77, 255)))
    image = rng.integers(0, 256, (300, 20, 3) if colour else (300, 20), dtype=np.uint8)
    mask = np.kron(rng.choice([0, 1, 2, 17, 255], (60, 5)), np.ones((5, 4))).astype(np.uint8)
    background = [name.lower() for name in names].index("background") if "c" not in names else None
    padded = np.pad(mask.astype(int), 1, mode="edge")
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    is_edge = np.any([each != mask for each in around], axis=0)
    expected = np.broadcast_to(image if colour else image[..., None], (300, 20, 3)).astype(np.float64)
    for number, rgb in enumerate(classes.palette):
        if number != background:
            inside = (mask == number)[..., None]
            expected = np.where(
                inside, np.where(is_edge[..., None], rgb, expected * (1 - 0.3) + np.multiply(rgb, 0.3)), expected
            )
    found = draw_overlay(image, mask, classes, alpha=0.3)
    np.testing.assert_array_equal(found, np.round(expected).astype(np.uint8))


def test_legends_differ_by_width_classes_and_what_is_there():
    image = np.zeros((4, 300, 3), np.uint8)
    other = Classes(CLASSES.names, palette=((0, 0, 0), (0, 255, 0), (0, 0, 255)))
    made = [
        add_legend(shown, classes, present)
        for shown, classes, present in (
            (image, CLASSES, [1]),
            (image, CLASSES, [2]),
            (image, CLASSES, [1, 2]),
            (image, other, [1]),
            (image[:, :200], CLASSES, [1]),
        )
    ]
    assert len({each.tobytes() for each in made}) == len(made)
    np.testing.assert_array_equal(add_legend(image + 9, CLASSES, [1])[4:], made[0][4:])
