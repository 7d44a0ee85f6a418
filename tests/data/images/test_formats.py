"""Only the documented formats are opened, whatever a file's name says: PostScript would start Ghostscript."""

from __future__ import annotations

import ast
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

import unip
from tests.data.images.radiometric_files import flir_jpeg
from unip.data.images.config import Conversion
from unip.data.images.decoding import decode_samples, read_image, read_image8, read_samples
from unip.data.images.formats import FORMATS, open_image
from unip.data.images.jpeg import jpeg_grey8
from unip.data.images.radiometric import decode_radiometric, read_temperature
from unip.data.labelled.masks import ColourFile, MaskFile
from unip.data.labelled.pairs import read_channel
from unip.data.labelled.readers.yolo import YoloMask
from unip.data.manifests.facts import read_facts
from unip.errors import UnipError

EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(marker) (w) file closefile\nshowpage\n%%EOF\n"
)
PIXELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what was started: nothing, at the end of every test but the one that Pillow itself is asked in."""
    calls: list[str] = []

    def ghostscript(*_: Any, **__: Any) -> Any:
        calls.append("Ghostscript")
        raise OSError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    return calls


def test_pillow_alone_would_start_it(tmp_path: Path, started: list[str]) -> None:
    (tmp_path / "x.png").write_bytes(EPS)
    with Image.open(tmp_path / "x.png") as image, pytest.raises(OSError, match="Ghostscript was started"):
        image.load()
    assert started == ["Ghostscript"]


# What opens an image file at a path
DOORS: dict[str, Callable[[Path], Any]] = {
    "image": read_image,
    "image for a model": read_image8,
    "samples": read_samples,
    "mask": lambda path: MaskFile(path).read(),
    "ids": lambda path: MaskFile(path).read(),
    "colours": lambda path: ColourFile(path, (((0, 0, 0), 0),)).read(),
    "channel": lambda path: read_channel(path, 0),
    "size for a YOLO mask": lambda path: YoloMask(path.with_suffix(".txt"), path, ("a",), (1,)).read(),
}


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "bmp", "eps"])
@pytest.mark.parametrize("door", DOORS)
def test_postscript_is_no_image_by_any_name(tmp_path: Path, door: str, ending: str, started: list[str]) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(EPS)
    with pytest.raises(UnipError, match=rf"x\.{ending}"):
        DOORS[door](path)
    assert started == []


@pytest.mark.parametrize("door", DOORS)
def test_a_pointer_of_git_lfs_is_called_so(tmp_path: Path, door: str) -> None:
    (tmp_path / "x.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    with pytest.raises(UnipError, match=r"x\.png.*pointer of Git LFS.*git lfs pull"):
        DOORS[door](tmp_path / "x.png")


@pytest.mark.parametrize("door", DOORS)
def test_other_bytes_are_refused_without_an_address_in_memory(tmp_path: Path, door: str) -> None:
    (tmp_path / "x.png").write_bytes(b"hello")
    with pytest.raises(UnipError, match=r"x\.png") as caught:
        DOORS[door](tmp_path / "x.png")
    assert "BytesIO" not in str(caught.value) and " at 0x" not in str(caught.value)


def test_doors_that_refuse_by_a_value(tmp_path: Path, started: list[str]) -> None:
    (tmp_path / "x.png").write_bytes(EPS)
    assert "is not an image that can be read" in str(read_facts(str(tmp_path / "x.png")).problem)
    assert jpeg_grey8(EPS) is None
    assert decode_radiometric(EPS, "x.jpg") is None
    assert read_temperature(tmp_path / "x.png") is None
    assert started == []


def test_a_picture_inside_a_flir_file_is_opened_in_these_formats_too(started: list[str]) -> None:
    flyr = pytest.importorskip("flyr")
    counts = np.full((60, 80), 17000, np.uint16)
    file = flir_jpeg(counts, np.zeros((60, 80), np.uint8), photo=EPS)
    kelvin = decode_samples(file, "x.jpg", Conversion(method="window", window=(273, 373)))
    assert kelvin.shape == (60, 80) and started == []
    photo = io.BytesIO()
    Image.fromarray(np.full((60, 80), 9, np.uint8)).save(photo, "JPEG")
    whole = flir_jpeg(counts, np.zeros((60, 80), np.uint8), photo=photo.getvalue())
    assert flyr.unpack(io.BytesIO(whole)).optical.shape == (60, 80)  # so the record is where flyr looks for it


@pytest.mark.parametrize("kind", FORMATS)
def test_the_documented_formats_are_opened(kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    with open_image(file.getvalue()) as image:
        assert (image.format, image.size) == (kind, (16, 16))
    with open_image(file) as image:
        image.load()
    assert not file.closed


@pytest.mark.parametrize("kind", ["GIF", "PPM", "ICO", "PCX", "TGA", "SGI", "EPS"])
def test_no_other_format_is_opened(kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind)
    with pytest.raises(UnidentifiedImageError):
        open_image(file.getvalue())


def test_nothing_else_asks_pillow_to_open_a_file() -> None:
    source = Path(unip.__file__).parent
    found = []
    for path in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open", "imread"):
                found.append(path.relative_to(source).as_posix())
            elif isinstance(node, ast.ImportFrom) and node.module == "PIL.Image":
                found += [path.name for name in node.names if name.name == "open"]
    assert found == []  # not formats.py either: it asks the decoders
