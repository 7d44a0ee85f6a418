from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unip.data.images.decoding import decode_image, is_grey, read_image, read_image8, to_grey8, to_rgb8
from unip.data.images.files import WAYS_ON, check_images, list_images
from unip.errors import UnipError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (9, 13), dtype=np.uint8)
RGB = RNG.integers(0, 256, (9, 13, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (9, 13), dtype=np.uint16)
DEEP_RGB = RNG.integers(0, 65536, (9, 13, 3), dtype=np.uint16)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png16(pixels: np.ndarray, colour: int) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png(pixels.shape[1], pixels.shape[0], 16, colour, rows)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "bmp"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_eight_bits_come_back_as_written(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image if image.ndim == pixels.ndim else to_grey8(image), pixels)
    assert is_grey(image) == (pixels.ndim == 2)


@pytest.mark.parametrize("kind", ["lossy", "alpha", "animated"])
def test_webp_is_what_pillow_reads(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    first, second = (Image.fromarray(rng.integers(0, 256, (9, 14, 4), dtype=np.uint8)) for _ in range(2))
    path = tmp_path / "a.webp"
    if kind == "animated":
        first.save(path, save_all=True, append_images=[second], lossless=True)
    else:
        (first if kind == "alpha" else first.convert("RGB")).save(path)
    with Image.open(path) as image:
        assert getattr(image, "is_animated", False) == (kind == "animated")
        np.testing.assert_array_equal(read_image(path), np.asarray(image.convert("RGB")))


def test_jpeg_is_close(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_not_clipped(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(DEEP).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, DEEP)


def test_sixteen_bit_colour_png_keeps_its_high_bytes() -> None:
    np.testing.assert_array_equal(decode_image(png16(DEEP_RGB, 2), "a"), DEEP_RGB >> 8)
    alpha = np.concatenate([DEEP_RGB, DEEP[..., None]], axis=2)
    np.testing.assert_array_equal(decode_image(png16(alpha, 6), "a"), DEEP_RGB >> 8)


@pytest.mark.parametrize("channels, colour", [(2, 4), (3, 2)], ids=["grey and alpha", "rgb"])
def test_counts_in_colour_png_are_refused(channels: int, colour: int) -> None:
    with pytest.raises(UnipError, match=r"image a\.png: holds 16-bit grey samples in a colour PNG"):
        decode_image(png16(np.stack([DEEP] * channels, axis=2), colour), "a.png")


def test_alpha_and_palettes(tmp_path: Path) -> None:
    Image.fromarray(np.concatenate([RGB, GREY[..., None]], 2), "RGBA").save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), RGB)
    Image.fromarray(np.stack([GREY, GREY], 2), "LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), GREY)
    indexed = Image.fromarray(GREY % 3, "P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indexed.save(tmp_path / "p.png")
    expected = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], dtype=np.uint8)[GREY % 3]
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), expected)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_sixteen_bit_layouts(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "a.tiff"
    tifffile.imwrite(path, DEEP_RGB, photometric="rgb", compression=compression)
    np.testing.assert_array_equal(read_image(path), DEEP_RGB)
    planes = np.ascontiguousarray(DEEP_RGB.transpose(2, 0, 1))
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", compression=compression)
    np.testing.assert_array_equal(read_image(path), DEEP_RGB)
    tifffile.imwrite(path, DEEP, byteorder=">", compression=compression)
    np.testing.assert_array_equal(read_image(path), DEEP)


def test_tiff_with_lzw_from_pillow(tmp_path: Path) -> None:
    Image.fromarray(DEEP).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), DEEP)


def test_tiff_where_white_is_zero_is_inverted(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DEEP, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), 65535 - DEEP.astype(int))


def test_tiff_of_wide_integers_and_floats(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DEEP.astype(np.int32))
    np.testing.assert_array_equal(read_image(path), DEEP)  # they fit
    tifffile.imwrite(path, (DEEP % 1000).astype(np.int16) - 500)
    np.testing.assert_array_equal(read_image(path), DEEP % 1000 - (DEEP % 1000).min())  # shifted
    kelvin = RNG.uniform(250, 350, (9, 13))
    kelvin[0, 0], kelvin[0, 1] = np.nan, np.inf
    tifffile.imwrite(path, kelvin.astype(np.float32))
    image = read_image(path)
    low, high = kelvin[np.isfinite(kelvin)].min(), kelvin[np.isfinite(kelvin)].max()
    expected = np.where(np.isfinite(kelvin), (kelvin - low) / (high - low) * 65535, 0)
    assert image.dtype == np.uint16
    np.testing.assert_allclose(image, expected, atol=1)
    tifffile.imwrite(path, np.full((4, 4), 3.5, dtype=np.float32))
    assert not read_image(path).any()


def test_tiff_that_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.full((4, 4), np.nan, dtype=np.float32))
    with pytest.raises(UnipError, match="no finite sample"):
        read_image(path)
    tifffile.imwrite(path, np.zeros((4, 4), dtype=np.complex64))
    with pytest.raises(UnipError, match="samples of type complex64"):
        read_image(path)
    tifffile.imwrite(path, np.zeros((4, 4, 6), dtype=np.uint16), photometric="minisblack", planarconfig="contig")
    with pytest.raises(UnipError, match=r"not grey or RGB"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UnipError, match=r"a\.\w+ is (truncated or damaged|not an image)"):
        read_image(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_truncated_deep_tiff_is_refused(tmp_path: Path, compression: str | None, share: float) -> None:
    path = tmp_path / "a.tif"
    pixels = RNG.integers(0, 65536, (64, 64), dtype=np.uint16)
    tifffile.imwrite(path, pixels, compression=compression)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnipError, match="damaged"):
        read_image(path)


def test_other_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UnipError, match=r"cannot read image .*none\.png: No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(UnipError, match="cannot read image"):
        read_image(tmp_path)
    with pytest.raises(UnipError, match="empty"):
        decode_image(b"", "a.png")
    with pytest.raises(UnipError, match=r"a\.png is not an image"):
        decode_image(b"hello", "a.png")


def test_decompression_bombs_are_refused() -> None:
    with pytest.raises(UnipError, match=r"a\.png: it claims 60000x60000, more than 200 million pixels"):
        decode_image(png(60000, 60000, 8, 0, b"\0"), "a.png")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, DEEP)
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        places = [file.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    for place in places:
        data[place : place + 2] = struct.pack("<H", 60000)
    with pytest.raises(UnipError, match=r"a\.tif: it claims .*, more than 200 million pixels"):
        decode_image(bytes(data), "a.tif")


def test_luma_is_bt601() -> None:
    expected = RGB.astype(np.float64) @ [0.299, 0.587, 0.114]
    assert np.abs(to_grey8(RGB) - expected).max() <= 1
    assert to_grey8(GREY) is GREY
    np.testing.assert_array_equal(to_grey8(np.repeat(GREY[..., None], 3, 2)), GREY)


def test_sixteen_bits_become_eight_by_percentiles() -> None:
    counts = RNG.normal(8000, 100, (64, 80)).astype(np.uint16)
    counts[0, 0] = 65535  # one hot pixel must not decide
    low, high = np.percentile(counts.astype(np.float64), [0.5, 99.5])
    expected = np.clip((counts - low) / (high - low) * 255, 0, 255)
    assert np.abs(to_grey8(counts) - expected).max() <= 0.51
    colour = np.stack([counts, counts, counts], axis=2)
    assert np.abs(to_grey8(colour).astype(int) - to_grey8(counts)).max() <= 1
    assert to_rgb8(colour).shape == (64, 80, 3)


def test_flat_frames_do_not_divide_by_zero() -> None:
    flat = np.full((40, 40), 7000, dtype=np.uint16)
    assert not to_grey8(flat).any()
    flat[3, 4] = 7100  # outside of the percentiles
    assert to_grey8(flat)[3, 4] == 255
    assert to_grey8(flat).sum() == 255


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 65535), min_size=1, max_size=40))
def test_stretching_keeps_the_order(values: list[int]) -> None:
    image = np.array([values], dtype=np.uint16)
    grey = to_grey8(image)[0].astype(int)
    assert (np.diff(grey[np.argsort(values, kind="stable")]) >= 0).all()


def test_display_repeats_grey() -> None:
    np.testing.assert_array_equal(to_rgb8(GREY), np.stack([GREY] * 3, axis=2))
    assert to_rgb8(RGB) is RGB


def test_is_grey_tolerates_lossy_coding_only() -> None:
    almost = np.repeat(np.minimum(GREY, 250)[..., None], 3, axis=2)
    almost[..., 1] += 2
    assert is_grey(almost)
    almost[3, 5, 1] += 1  # a single coloured pixel off the coarse grid
    assert not is_grey(almost)
    assert is_grey(DEEP) and not is_grey(DEEP_RGB)


def test_read_image8_gives_what_a_model_sees(tmp_path: Path) -> None:
    Image.fromarray(np.repeat(GREY[..., None], 3, axis=2)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image8(tmp_path / "grey.png"), GREY)
    Image.fromarray(RGB).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_image8(tmp_path / "rgb.png"), RGB)
    Image.fromarray(DEEP).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image8(tmp_path / "deep.png"), to_grey8(DEEP))


def test_listing(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/1.jpeg", "a.TIF", ".hidden.png", ".cache/.3.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "up").symlink_to(tmp_path)  # a loop
    assert list_images(tmp_path) == [tmp_path / "a.TIF", tmp_path / "b/1.jpeg", tmp_path / "b/2.PNG"]
    assert list_images(tmp_path / "a.TIF") == [tmp_path / "a.TIF"]
    with pytest.raises(UnipError, match="no such folder or image"):
        list_images(tmp_path / "gone")
    with pytest.raises(UnipError, match="not an image file by its name"):
        list_images(tmp_path / "notes.txt")
    with pytest.raises(UnipError, match="no images in"):
        list_images(tmp_path / ".cache")


@pytest.mark.parametrize("ending", WAYS_ON)
def test_a_file_that_is_no_image_says_the_way_on_as_its_folder_does(tmp_path: Path, ending: str) -> None:
    for name in (f"a{ending}", f"b{ending.upper()}"):
        (tmp_path / name).touch()
        with pytest.raises(UnipError, match="not an image file by its name") as caught:
            list_images(tmp_path / name)
        assert caught.value.fix.startswith(f"Instead, {WAYS_ON[ending]}. Known endings: ")


def test_files_that_are_no_images_are_counted_with_the_way_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.png", "b.npy", "in/c.NPY", "d.csv", "e.mp4", "f.zip", "notes.txt", "labels.json", ".hidden.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with caplog.at_level("INFO"):
        assert list_images(tmp_path) == list_images(tmp_path) == [tmp_path / "a.png"]
    (said,) = caplog.messages  # once
    assert said.startswith(f"{tmp_path}: skipped, since they are not read as images: 1 .csv (save each frame as 16-bit")
    assert "1 .mp4 (take frames with `unip data build`" in said and "2 .npy" in said and "1 .zip (unpack it)" in said
    assert ".txt" not in said and ".json" not in said
    for check in (list_images, check_images):
        with pytest.raises(UnipError, match=r"no images in .*in; skipped, .* 1 \.npy \(save each frame as 16-bit PNG"):
            check(tmp_path / "in")
