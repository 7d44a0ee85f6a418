from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unip.data.images.config import Conversion
from unip.data.labelled.classes import Classes, default_palette
from unip.data.labelled.datasets import check_segmentation, open_segmentation
from unip.data.labelled.masks import MaskFile, plain_ids, translate
from unip.errors import UnipError

CLASSES = Classes(("background", "person", "car"), 255)


def write(root: Path, masks: dict[str, np.ndarray], *, classes: object | None = CLASSES.to_dict()) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for name, mask in masks.items():
        Image.fromarray(np.full(mask.shape[:2], 90, dtype=np.uint8)).save(root / "images" / f"{name}.webp")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    if classes is not None:
        (root / "classes.json").write_text(json.dumps(classes))
    return root


def read_mask(path: Path, classes: Classes) -> np.ndarray:
    return translate(MaskFile(path).read(), plain_ids(classes), classes, path)


def ids(*values: int, size: tuple[int, int] = (4, 6), dtype: type = np.uint8) -> np.ndarray:
    return np.resize(np.array(values, dtype=dtype), size)


def test_a_folder_opens_with_and_without_splits(tmp_path: Path) -> None:
    write(tmp_path / "set" / "train", {"b": ids(0), "a": ids(1)}, classes=None)
    (tmp_path / "set" / "classes.json").write_text(json.dumps({"names": ["sky", "road"]}))
    by_split = open_segmentation(tmp_path / "set", "train")
    assert [path.name for path in by_split.images] == ["a.webp", "b.webp"]
    assert [mask.path.name for mask in by_split.masks] == ["a.png", "b.png"]
    assert by_split.classes == Classes(("sky", "road"), 255) and len(by_split) == 2
    assert open_segmentation(tmp_path / "set" / "train") == by_split
    (tmp_path / "set" / "train" / "classes.json").write_text(json.dumps({"names": ["own"]}))
    assert open_segmentation(tmp_path / "set", "train").classes.names == ("own",)  # the split's own file wins


def test_subfolders_keep_their_place(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {"a": ids(0)})
    for kind, suffix in (("images", "webp"), ("masks", "png")):
        (root / kind / "day").mkdir()
        (root / kind / f"a.{suffix}").rename(root / kind / "day" / f"a.{suffix}")
    assert open_segmentation(root).masks == (MaskFile(root / "masks/day/a.png"),)


def test_folder_problems(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnipError, match="no such folder") as caught:
        open_segmentation(tmp_path / "gone", "train")
    assert "gone/train/images" in caught.value.fix
    root = tmp_path / "set"
    write(root / "train", {"a": ids(0), "b": ids(0)})
    with pytest.raises(UnipError, match="not a segmentation folder") as caught:
        open_segmentation(root, "test")
    assert "Splits in" in caught.value.fix and "train" in caught.value.fix
    (root / "train/masks/b.png").unlink()
    with caplog.at_level("INFO"):
        assert len(open_segmentation(root, "train")) == 1
    assert "1 of 2 images have no mask and are left out: train/images/b.webp" in caplog.text
    (root / "train/masks/a.png").unlink()
    with pytest.raises(UnipError, match=r"no image has a mask: none of 2 in .*images has one in .*masks") as caught:
        open_segmentation(root, "train")
    assert "masks/a.png" in caught.value.fix
    Image.fromarray(ids(0)).save(root / "train/masks/a.png")
    Image.new("L", (6, 4)).save(root / "train/images/a.png")
    with pytest.raises(UnipError, match="would share a mask"):
        open_segmentation(root, "train")


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "no classes.json in"),
        ("{", "classes.json is not valid JSON"),
        ("[]", "no list `names`"),
        ('{"names": "ab"}', "no list `names`"),
        ('{"names": []}', "0 names, but 1 to 254"),
        ('{"names": ["a", 3]}', "must be a text"),
        ('{"names": ["a", ""]}', "must be a text"),
        ('{"names": ["a", "b", "a"]}', "the name 'a' appears twice"),
        ('{"names": ["a"], "ignore_index": "x"}', "must be an integer"),
        ('{"names": ["a"], "ignore_index": 0}', "must lie above the class ids 0..0"),
        ('{"names": ["a"], "ignore_index": 70000}', "within 65535"),
        ('{"names": ["a"], "ignored": 3}', "unknown key 'ignored'"),
        ('{"names": ["a"], "palette": [[0, 0]]}', "palette must hold 1 colours"),
        ('{"names": ["a"], "palette": [[0, 0, 256]]}', "palette must hold 1 colours"),
        ('{"names": ["a", "b"], "palette": [[0, 0, 0]]}', "palette must hold 2 colours"),
        ('{"names": ["a"], "palette": 5}', "palette must be a list"),
    ],
)
def test_bad_classes_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    root = write(tmp_path / "set", {"a": ids(0)}, classes=None)
    if text is not None:
        (root / "classes.json").write_text(text)
    with pytest.raises(UnipError) as caught:
        open_segmentation(root)
    assert message in caught.value.what and str(root) in caught.value.what


def test_classes_come_back() -> None:
    classes = Classes(("a", "b"), 254, ((1, 2, 3), (4, 5, 6)))
    assert Classes.from_dict(json.loads(json.dumps(classes.to_dict()))) == classes
    assert Classes.from_dict({"names": ["a", "b"]}).palette == default_palette(2)


def test_default_colours_differ() -> None:
    colours = default_palette(64)
    assert colours[0] == (0, 0, 0) and len(set(colours)) == 64
    few = np.array(default_palette(12), dtype=float)
    distance = np.linalg.norm(few[:, None] - few[None], axis=2) + 1e9 * np.eye(12)
    assert distance.min() > 40


def test_masks_of_each_kind(tmp_path: Path) -> None:
    expected = ids(0, 1, 2, 255)
    path = tmp_path / "m.png"
    for image in (
        Image.fromarray(expected),
        Image.fromarray(expected.astype(np.uint16)),
        Image.fromarray(expected, "P"),
    ):
        if image.mode == "P":
            image.putpalette(list(range(256)) * 3)
        image.save(path)
        mask = read_mask(path, CLASSES)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected)
        for file_format in ("TIFF", "BMP"):
            if image.mode in ("L", "P") or file_format == "TIFF":
                image.save(path, format=file_format)
                np.testing.assert_array_equal(read_mask(path, CLASSES), expected)
    tifffile.imwrite(path, expected.astype(np.uint16), byteorder=">", compression="zlib")
    np.testing.assert_array_equal(read_mask(path, CLASSES), expected)
    Image.fromarray(ids(0, 1).astype(bool)).save(path)
    np.testing.assert_array_equal(read_mask(path, CLASSES), ids(0, 1))


def test_ignore_becomes_255(tmp_path: Path) -> None:
    Image.fromarray(ids(0, 1, 1000, dtype=np.uint16)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", Classes(("a", "b"), 1000)), ids(0, 1, 255))


@pytest.mark.parametrize("depth", [2, 4])
def test_narrow_grey_masks_are_not_spread(tmp_path: Path, depth: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    values = np.array([[0, 1, 2, 1], [2, 2, 0, 1]], dtype=np.uint8)
    bits = (values[..., None] >> np.arange(depth - 1, -1, -1) & 1).reshape(2, -1)
    body = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    header = struct.pack(">IIBBBBB", 4, 2, depth, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", CLASSES), values)


def test_mask_problems(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    with pytest.raises(UnipError, match=r"cannot read mask .*m\.png"):
        read_mask(path, CLASSES)
    Image.fromarray(ids(0, 7, 9, 255)).save(path)
    with pytest.raises(UnipError, match=r"m\.png holds the unknown id 7 and 1 more \(12 pixels\)") as caught:
        read_mask(path, CLASSES)
    assert "0..2 (background, person, car) and 255" in caught.value.fix
    Image.fromarray(np.full((4, 6, 3), (0, 0, 255), dtype=np.uint8)).save(path)
    with pytest.raises(UnipError, match="colour mode RGB"):
        read_mask(path, CLASSES)
    for file_format in ("JPEG", "WEBP"):
        Image.fromarray(ids(0)).save(path, format=file_format)
        with pytest.raises(UnipError, match=f"is {file_format}, not PNG"):
            read_mask(path, CLASSES)
    Image.fromarray(ids(0)).save(path, format="TIFF", compression="jpeg")
    with pytest.raises(UnipError, match="is TIFF with lossy compression"):
        read_mask(path, CLASSES)
    pages = [Image.fromarray(ids(i)) for i in (0, 1)]
    pages[0].save(path, format="TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(UnipError, match="holds 2 pages"):
        read_mask(path, CLASSES)
    tifffile.imwrite(path, ids(0, 1), photometric="miniswhite")
    with pytest.raises(UnipError, match="whose 0 is white"):
        read_mask(path, CLASSES)
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UnipError, match=r"mask .*m\.png is truncated"):
        read_mask(path, CLASSES)


def test_checking_counts_pixels(tmp_path: Path) -> None:
    data = open_segmentation(write(tmp_path / "set", {"a": ids(0, 1), "b": ids(1, 255, dtype=np.uint16)}))
    assert check_segmentation(data) == {"background": 12, "person": 24, "car": 0, "ignore": 12}


def test_checking_names_what_is_bad(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {"a": ids(0), "b": ids(1), "c": ids(2)})
    Image.fromarray(ids(0, size=(6, 4))).save(root / "masks/a.png")
    with pytest.raises(UnipError, match=r"masks/a\.png is 4x6 but its image .*a\.webp is 6x4") as caught:
        check_segmentation(open_segmentation(root))
    assert "EXIF" in caught.value.fix
    Image.fromarray(ids(0, size=(5, 5))).save(root / "masks/a.png")
    with pytest.raises(UnipError, match="is 5x5") as caught:
        check_segmentation(open_segmentation(root))
    assert caught.value.fix == "Save the mask at the size of its image."
    Image.fromarray(ids(9)).save(root / "masks/b.png")
    (root / "images/c.webp").write_bytes((root / "images/c.webp").read_bytes()[:30])
    with pytest.raises(UnipError, match="3 of 3 pairs are bad:") as caught:
        check_segmentation(open_segmentation(root))
    assert "unknown id 9" in caught.value.what and "c.webp" in caught.value.what
    assert caught.value.fix.startswith("For the first: Save the mask")


def test_the_data_may_say_how_its_images_are_read(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {"a": ids(0)}, classes={"names": ["sky"], "conversion": {"polarity": "black-hot"}})
    data = open_segmentation(root)
    assert data.conversion is not None and data.conversion.polarity == "black-hot"
    assert (data.read_image(0) == 255 - data.read_image(0, Conversion())).all()
    assert data.take([0]).conversion == data.conversion
