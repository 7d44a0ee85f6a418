import io
import json
import typing

import numpy as np
import pytest
from PIL import Image, ImageDraw

from unip.data.images.config import Conversion, PaletteChoice
from unip.data.images.decoding import decode_samples, read_grey8, read_image8
from unip.data.images.encoding import encode
from unip.data.images.palettes import (
    known_palettes,
    palette_names,
    palette_to_grey,
    recognise,
)
from unip.errors import UnipError

FULL = {palette.name: palette for palette in reversed(known_palettes())}  # those of cameras in the range 0..255
INVERT = Conversion(palette="invert")


def thermal(seed=0, size=(256, 320), top=255):
    """A frame with even surfaces, edges, gradients and sensor noise, from level 0 to ``top``."""
    rng = np.random.default_rng(seed)
    knots = Image.fromarray(rng.integers(0, 256, (6, 8), dtype=np.uint8))
    scene = np.asarray(knots.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float32)
    for _ in range(8):
        y, x = rng.integers(0, size[0] - 50), rng.integers(0, size[1] - 50)
        scene[y : y + 50, x : x + 40] = rng.integers(0, 256)
    return np.clip((scene + rng.normal(0, 1.5, size)) * top / 255, 0, top).astype(np.uint8)


def coloured(grey, palette):
    return np.rint(palette.colours).astype(np.uint8)[grey]


def stored(image, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def as_jpeg(image, quality):
    return np.asarray(Image.open(io.BytesIO(stored(image, "JPEG", quality=quality))))


def natural(seed):
    """A picture whose three channels have little to do with each other."""
    return np.stack([thermal(3 * seed + channel) for channel in range(3)], axis=-1)


def error(levels, grey):
    return float(np.abs(levels.astype(int) - grey).mean())


@pytest.mark.parametrize("palette", known_palettes(), ids=lambda palette: f"{palette.name}-{palette.colours.min():.0f}")
def test_every_palette_is_recognised_and_turned_back(palette):
    grey = thermal(1)
    image = coloured(grey, palette)
    for frame, most in ((image, 3), (as_jpeg(image, 85), 6)):
        found = recognise(frame)
        assert found is not None and found.name == palette.name
        assert error(palette_to_grey(frame, "invert", "a"), grey) <= most
        assert error(palette_to_grey(frame, palette.name, "a"), grey) <= most
    assert recognise(as_jpeg(image, 60)).name == palette.name


@pytest.mark.parametrize("name", ["iron", "rainbow-hc", "jet", "grey-red", "dji-arctic"])
def test_overlays_change_nothing(name):
    """A colour bar, a scale with text, a logo and a cross hair."""
    grey = thermal(2)
    image = coloured(grey, FULL[name])
    image[40:200, 300:316] = coloured(np.linspace(255, 0, 160).astype(np.uint8)[:, None].repeat(16, 1), FULL[name])
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((4, 4, 110, 30), fill=(0, 0, 0))
    pen.text((8, 8), "max 37.2 C  e=0.95", fill=(255, 255, 255))
    pen.ellipse((8, 225, 30, 247), fill=(0, 90, 255))
    pen.line((150, 128, 170, 128), fill=(0, 255, 0), width=2)
    frame = as_jpeg(np.asarray(picture), 80)
    assert recognise(frame).name == name
    rest = np.s_[40:220, :290]
    assert error(palette_to_grey(frame, "invert", "a")[rest], grey[rest]) <= 6


def test_natural_colours_and_grey_are_no_palette():
    assert [recognise(natural(seed)) for seed in range(5)] == [None] * 5
    grey = np.repeat(thermal(1)[..., None], 3, 2)
    assert recognise(grey) is None
    assert recognise(np.zeros((8, 8, 3), np.uint8)) is None
    sepia = np.rint(thermal(3)[..., None] * np.array([1, 0.8, 0.6])).astype(np.uint8)
    assert recognise(sepia) is None


def test_a_single_colour_is_no_palette():
    assert recognise(np.full((64, 64, 3), (255, 164, 0), np.uint8)) is None  # iron has it


def test_little_of_a_palette_is_enough():
    """A frame of low contrast takes a small part of the curve."""
    grey = (thermal(4) // 6 + 100).astype(np.uint8)
    assert recognise(as_jpeg(coloured(grey, FULL["turbo"]), 85)).name == "turbo"


def test_a_tiny_frame_is_read_too():
    grey = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    assert error(palette_to_grey(coloured(grey, FULL["iron"]), "iron", "a"), grey) <= 3


def test_16_bit_colours_count_by_their_high_byte():
    grey = thermal(5)
    image = coloured(grey, FULL["plasma"])
    wide = image.astype(np.uint16) * 257
    np.testing.assert_array_equal(palette_to_grey(wide, "invert", "a"), palette_to_grey(image, "invert", "a"))


def test_the_names_can_be_chosen():
    assert sorted(typing.get_args(PaletteChoice)) == sorted(["keep", "invert", *palette_names()])


def test_colours_of_stops_rise_in_level_and_fit_8_bits():
    for palette in known_palettes():
        assert palette.colours.shape == (256, 3)
        assert palette.colours.min() >= 0 and palette.colours.max() <= 255
        assert len(np.unique(np.rint(palette.colours), axis=0)) > 150, palette.name


def test_reading_by_a_conversion(tmp_path):
    grey = thermal(6)
    path = tmp_path / "iron.png"
    path.write_bytes(stored(coloured(grey, FULL["iron"])))
    assert read_image8(path).shape == (*grey.shape, 3)
    assert error(read_image8(path, INVERT), grey) <= 3
    assert error(read_grey8(path, Conversion(palette="iron")), grey) <= 3
    black_hot = Conversion(palette="iron", polarity="black-hot")
    np.testing.assert_array_equal(read_image8(path, black_hot), 255 - read_image8(path, INVERT))


def test_grey_frames_stay_as_they_are():
    grey = thermal(7)
    for image in (grey, np.repeat(grey[..., None], 3, 2)):
        np.testing.assert_array_equal(decode_samples(stored(image), "a", INVERT), image)


def test_a_grey_frame_with_a_coloured_mark_becomes_grey():
    grey = thermal(8)
    image = np.repeat(grey[..., None], 3, 2)
    image[100:103, 100:120] = (255, 0, 0)
    levels = decode_samples(stored(image), "a", INVERT)
    assert levels.ndim == 2
    np.testing.assert_array_equal(levels[:90], grey[:90])


def test_colours_of_no_known_palette_are_refused():
    with pytest.raises(UnipError, match=r"image a\.png: its colours are of no known palette") as refused:
        decode_samples(stored(natural(1)), "a.png", INVERT)
    assert "--palette iron" in refused.value.fix and "rainbow-hc" in refused.value.fix


def test_a_wrong_name_is_refused_and_the_right_one_said():
    image = coloured(thermal(9), FULL["jet"])
    with pytest.raises(UnipError, match="its colours are not those of the palette lava") as refused:
        decode_samples(stored(image), "a.png", Conversion(palette="lava"))
    assert "--palette jet" in refused.value.fix


def test_a_frame_with_little_colour_needs_the_name():
    """Grey-red has grey up to level 164: a frame with few hot pixels looks grey."""
    grey = (thermal(11) // 2).astype(np.uint8)
    grey[50:56, 60:66] = 250
    image = coloured(grey, FULL["grey-red"])
    assert recognise(image) is None
    assert error(palette_to_grey(image, "grey-red", "a"), grey) <= 3


def test_a_conversion_tells_and_keeps_the_palette():
    assert Conversion.from_json(INVERT.as_json()) == INVERT
    assert "palette" not in Conversion().describe()
    assert "colours of the palette turned back into grey" in INVERT.describe()
    assert "colours of the palette lava turned back" in Conversion(palette="lava").describe()
    with pytest.raises(UnipError, match="palette"):
        Conversion.from_json(json.dumps({"palette": "mauve"}))


def test_a_packed_copy_holds_the_grey_levels():
    grey = thermal(10)
    data = stored(coloured(grey, FULL["iron"]))
    row = {"sha256": "", "width": 0, "height": 0, "bits": 8, "bytes": len(data), "conversion": INVERT.as_json()}
    packed = encode(data, row, short_side=None, format="png", quality=90)
    image = np.asarray(Image.open(io.BytesIO(packed.data)))
    assert error(image, grey) <= 3
    np.testing.assert_array_equal(decode_samples(packed.data, "a", Conversion.from_json(packed.conversion)), image)


def test_a_luma_will_do_where_no_palette_is_inverted():
    assert Conversion().takes_luma
    assert not INVERT.takes_luma and not Conversion(radiometric=True).takes_luma
