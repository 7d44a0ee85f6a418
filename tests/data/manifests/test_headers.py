"""Headers tell what decoding tells, and files that are cut off are found although nothing is decoded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unip.data.manifests import headers as module
from unip.data.manifests.facts import read_facts
from unip.data.manifests.headers import read_header

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (24, 36), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (24, 36, 3), dtype=np.uint8)
COUNTS = 7000 + 11 * GREY.astype(np.uint16)


def pillow(image: np.ndarray, mode: str = "", **options: object) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        picture = Image.fromarray(image)
        (picture.convert(mode) if mode else picture).save(path, **options)

    return save


def tiff(image: np.ndarray, **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, image, **options)


def copies(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(COUNTS, photometric="minisblack")
        file.write(COUNTS[::2, ::2], photometric="minisblack", subfiletype=1)


PLAIN = {  # whose headers say enough
    "grey.png": pillow(GREY),
    "colour.png": pillow(COLOUR),
    "alpha.png": pillow(COLOUR, "RGBA"),
    "palette.png": pillow(COLOUR, "P"),
    "bits.png": pillow(GREY, "1"),
    "counts.png": pillow(COUNTS),
    "grey.jpg": pillow(GREY),
    "colour.jpg": pillow(COLOUR),
    "cmyk.jpg": pillow(COLOUR, "CMYK"),
    "colour.webp": pillow(COLOUR),
    "grey.bmp": pillow(GREY),
    "grey.tif": pillow(GREY),
    "colour.tif": pillow(COLOUR),
    "lzw.tif": pillow(GREY, compression="tiff_lzw"),
    "counts.tif": tiff(COUNTS),
    "big.tif": tiff(COUNTS, bigtiff=True),
    "deflate.tif": tiff(COUNTS, compression="zlib"),
}
DECODED = {  # whose headers do not
    "turned.tif": pillow(GREY, tiffinfo={274: 6}),
    "palette.tif": pillow(COLOUR, "P"),
    "float.tif": tiff(COUNTS.astype(np.float32)),
    "wide.tif": tiff(COUNTS.astype(np.int32)),
    "colour16.tif": tiff(np.stack([COUNTS] * 3, -1), photometric="rgb"),
    "jpeg.tif": pillow(COLOUR, compression="jpeg"),
    "copies.tif": copies,
    "tail.jpg": lambda path: (pillow(GREY)(path), path.write_bytes(path.read_bytes() + b"tail")),
}


@pytest.mark.parametrize("name", [*PLAIN, *DECODED])
def test_a_header_tells_what_decoding_tells(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    (PLAIN | DECODED)[name](path)
    facts = read_facts(bytes(path))
    assert facts.problem is None
    expected = (facts.width, facts.height, facts.bits, facts.bytes, None)
    with_pixels, _ = read_header(bytes(path), pixels=True)
    assert with_pixels.grey == facts.grey
    if name in PLAIN:
        monkeypatch.setattr(module, "decode_image", lambda *_: pytest.fail("decoded"))
    header, modified = read_header(bytes(path))
    for found in (header, with_pixels):
        assert (found.width, found.height, found.bits, found.bytes, found.problem) == expected
    assert modified == path.stat().st_mtime_ns


@pytest.mark.parametrize("share", [0, 0.3, 0.98])
@pytest.mark.parametrize("name", [*PLAIN, *DECODED])
def test_what_cannot_be_decoded_is_found(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    (PLAIN | DECODED)[name](path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    facts, (header, _) = read_facts(bytes(path)), read_header(bytes(path))
    assert header.problem == facts.problem


def test_several_pages_are_refused_as_by_decoding(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    tiff(np.stack([COUNTS, COUNTS]), photometric="minisblack")(path)
    problem = read_header(bytes(path))[0].problem
    assert problem == read_facts(bytes(path)).problem and "2 pages" in str(problem)


def test_what_is_no_image_is_said_as_ever(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image, but longer than any header that could be looked at")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("text.png", "pipe.png", "gone.png"):
        path = bytes(tmp_path / name)
        problem = read_header(path)[0].problem
        assert problem == read_facts(path).problem and problem
