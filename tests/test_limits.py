"""What files claim is refused before memory is taken for it, wherever it is read, up to a limit that verbs set."""

from __future__ import annotations

import ast
import io
import json
import multiprocessing
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from torch.utils.data import DataLoader

import unip
from tests.test_opening import answer
from unip import limits
from unip.config import Config, verb
from unip.data.images.decoding import decode_image, read_image
from unip.data.labelled.masks import MaskFile
from unip.data.labelled.outlines import look_at_picture
from unip.data.labelled.pairs import read_channel
from unip.data.labelled.readers.coco import CocoMask
from unip.data.labelled.readers.cvat import _segmentation
from unip.data.labelled.readers.hit_uav import BoxMask
from unip.data.labelled.readers.label_studio import TaskResult, _objects
from unip.data.labelled.readers.labelme import LabelmeMask
from unip.data.labelled.readers.yolo import YoloMask
from unip.data.manifests.facts import read_facts
from unip.data.manifests.headers import read_header
from unip.data.sampling.frames import Frames
from unip.data.sampling.scaling import short_side_size
from unip.documents import fit
from unip.errors import UnipError
from unip.limits import check_pixels, limited_to, max_pixels
from unip.runtime.settings import MaxPixels
from unip.runtime.workers import map_processes, start_of_workers
from unip.suites.pool import Worker
from unip.suites.tasks import CostTask
from unip.verbs import DATA_VERBS, VERBS

PIXELS = np.arange(4096, dtype=np.uint8).reshape(64, 64)


def saved(kind: str, **options: Any) -> bytearray:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return bytearray(file.getvalue())


def png(width: int, height: int) -> bytes:
    data = saved("PNG")
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def jpeg(width: int, height: int) -> bytes:
    data = saved("JPEG")
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    """A lossless one: 14 bits each of width - 1 and height - 1 after its signature."""
    data = saved("WEBP", lossless=True)
    at = data.index(b"VP8L") + 9
    rest = struct.unpack("<I", data[at : at + 4])[0] >> 28 << 28
    data[at : at + 4] = struct.pack("<I", rest | (height - 1) << 14 | (width - 1))
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    data = saved("BMP")
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def tiff(width: int, height: int, dtype: Any = np.uint16) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, PIXELS.astype(dtype))
    data = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        places = [opened.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    for place, side in zip(places, (width, height), strict=True):
        data[place : place + 2] = struct.pack("<H", side)
    return bytes(data)


MADE: dict[str, Callable[[int, int], bytes]] = {
    "png": png,
    "jpg": jpeg,
    "webp": webp,
    "bmp": bmp,
    "tif": tiff,
    "8-bit tif": lambda width, height: tiff(width, height, np.uint8),
}
# What reads an image file at a path
DOORS: dict[str, Callable[[Path], Any]] = {
    "image": read_image,
    "mask": lambda path: MaskFile(path).read(),
    "channel": lambda path: read_channel(path, 0),
    "size for outlines": look_at_picture,
    "size for a YOLO mask": lambda path: YoloMask(path.with_suffix(".txt"), path, ("a",), (1,)).read(),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", MADE)
def test_a_header_that_claims_too_much(tmp_path: Path, door: str, kind: str) -> None:
    path = tmp_path / f"x.{kind.split()[-1]}"
    more = "more million pixels than Pillow" if kind == "webp" else "16000x16000, more than 200 million pixels"
    for side, claim in ((16000, more), (13000, "169 million pixels in")):
        path.write_bytes(MADE[kind](side, side))
        with pytest.raises(UnipError, match=rf"x\.{kind.split()[-1]}.*{claim}"):
            DOORS[door](path)
    assert "169 million pixels" in str(read_facts(str(path)).problem)
    assert "169 million pixels" in str(read_header(bytes(path), pixels=False)[0].problem)


@pytest.mark.parametrize("kind", MADE)
def test_the_limit_is_exact(kind: str) -> None:
    data = MADE[kind](64, 64)
    with limited_to(64 * 64):
        assert decode_image(data, "x").shape[:2] == (64, 64)
    with (
        limited_to(64 * 64 - 1),
        pytest.raises(UnipError, match=r"64x64, more than 0\.004095 million") as caught,
    ):
        decode_image(data, "x")
    assert "--max-pixels 4096" in caught.value.fix


def test_refusing_takes_no_memory(tmp_path: Path) -> None:
    for kind, make in MADE.items():
        (tmp_path / "x.png").write_bytes(make(13200, 13200))
        assert "174 million pixels in" in answer(lambda: read_image(tmp_path / "x.png")), kind


def test_a_jpeg_that_ends_too_early_is_not_filled_with_grey() -> None:
    for side in (1000, 2000, 5000):
        with pytest.raises(UnipError, match=f"it claims {side}x{side}, .* million pixels in"):
            decode_image(jpeg(side, side), "x")
    for mode in ("L", "RGB"):  # the least bytes that a real one has
        file = io.BytesIO()
        Image.new(mode, (3000, 2000)).save(file, "JPEG", progressive=True, optimize=True, subsampling=2)
        assert decode_image(file.getvalue(), "x").shape[:2] == (2000, 3000)


def test_pillows_own_limit_is_not_ours_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_image(png(64, 64), "x").shape == (64, 64)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(png(64, 64)))


def labelme(folder: Path, size: tuple[int, int]) -> None:
    image = folder / "x.png"
    Image.fromarray(PIXELS).save(image)
    (folder / "x.json").write_text(json.dumps({"imageHeight": size[0], "imageWidth": size[1], "shapes": []}))
    LabelmeMask(folder / "x.json", image, (("a", 1),), 0).read()


STATED: dict[str, Callable[[Path, tuple[int, int]], Any]] = {
    "LabelMe": labelme,
    "COCO": lambda folder, size: CocoMask(folder / "x.json", folder / "x.png", size, ()).read(),
    "HIT-UAV": lambda folder, size: BoxMask(folder / "x.json", size, ()).read(),
    "Label Studio": lambda folder, size: _objects(
        [fit({"original_height": size[0], "original_width": size[1], "type": "brushlabels"}, TaskResult, "x")], {}
    ),
}


@pytest.mark.parametrize("kind", STATED)
@pytest.mark.parametrize("size", [(30000, 30000), (0, 5), (-3, 4), (1, 10**12)])
def test_sizes_that_annotations_state(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    with pytest.raises(UnipError, match=f"claims .*{size[1]}x{size[0]}|(?i:height|width): input should be .*, not "):
        STATED[kind](tmp_path, size)


def test_a_mask_beyond_its_picture_takes_no_memory() -> None:
    from xml.etree import ElementTree

    shape = ElementTree.fromstring('<mask rle="1" left="0" top="0" width="100000" height="100000"/>')
    with pytest.raises(ValueError, match="in a picture of 64x64"):
        _segmentation(shape, (64, 64))


def test_a_long_image_does_not_grow_beyond_the_limit(tmp_path: Path) -> None:
    assert short_side_size(10, 1000, 512) == (512, 51200)
    with pytest.raises(UnipError, match="an image of 100000x10, resized to a short side of 512, claims 5120000x512"):
        short_side_size(10, 100000, 512)
    Image.fromarray(np.zeros((2, 60000), np.uint8)).save(tmp_path / "x.png")
    assert "claims" in str(Frames([tmp_path / "x.png"], 512)[0].problem)


def test_loader_processes_have_the_limit_of_their_parent(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    with limited_to(100):
        (frame,) = DataLoader(
            Frames([tmp_path / "x.png"], 64),  # type: ignore[arg-type]
            batch_size=None,
            num_workers=1,
            worker_init_fn=start_of_workers(),
        )
        assert "more than 0.0001 million pixels" in str(frame.problem)
        with multiprocessing.get_context("spawn").Pool(1, start_of_workers(), (0,)) as pool:
            assert pool.apply(max_pixels) == 100


def test_all_loader_processes_begin_so() -> None:
    source = Path(unip.__file__).parent
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "DataLoader":
                begin = {word.arg: ast.unparse(word.value) for word in node.keywords}["worker_init_fn"]
                assert begin == "start_of_workers()", path


def test_mapped_processes_have_the_limit_of_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unip.runtime.workers.MAX_THREADS", 1)
    with limited_to(77):
        assert set(map_processes(lambda _: max_pixels(), range(300), "", workers=2)) == {77}


def test_workers_of_a_bench_have_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    class Started(Exception):
        pass

    def popen(command: list[str], **_: Any) -> None:
        started.append(command)
        raise Started

    monkeypatch.setattr("unip.suites.pool.subprocess.Popen", popen)
    device = type("Device", (), {"visible": ""})()
    with limited_to(78), pytest.raises(Started):
        Worker(device).submit(CostTask.model_construct())
    assert started[0][-2:] == ["unip.suites.worker", "78"]


def test_a_verb_has_the_limit_that_it_is_given_while_it_runs() -> None:
    class Inner(Config):
        max_pixels: MaxPixels = limits.MAX_PIXELS

    class Outer(Inner):
        pass

    @verb(Inner)
    def inner(config: Inner) -> int:
        return max_pixels()

    @verb(Outer)
    def outer(config: Outer) -> tuple[int, int]:
        return inner(), inner(max_pixels=5)

    assert inner() == limits.MAX_PIXELS
    assert outer(max_pixels=7) == (7, 5)
    assert max_pixels() == limits.MAX_PIXELS
    with pytest.raises(UnipError, match="max_pixels"):
        inner(max_pixels=0)


def test_every_verb_that_reads_images_has_the_setting() -> None:
    without = {
        name for name, each in {**VERBS, **DATA_VERBS}.items() if "max_pixels" not in each.load_settings().model_fields
    }
    assert without == {"demo", "models", "scenes", "thermal_sdk"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "frames").mkdir()
    for number in range(3):
        Image.fromarray(np.roll(PIXELS, number * 1000)).save(tmp_path / f"frames/{number}.png")
    return tmp_path / "frames"


def test_verbs_obey_it(images: Path, tmp_path: Path) -> None:
    source, small = str(images), {"max_pixels": 4095}
    for call in (
        lambda: unip.data.build(sources=source, out=tmp_path / "built", **small),
        lambda: unip.data.stats(sources=source, **small),
        lambda: unip.data.dedup(sources=source, out=tmp_path / "dedup", **small),
        lambda: unip.doctor(folder=source, out=tmp_path / "doctor", **small),
        lambda: unip.analyze(models="unip-ir-tiny", images=source, out=tmp_path / "analysis", **small),
    ):
        with pytest.raises(UnipError, match=r"no image of|no frame of|none of the 3 images"):
            call()
    checked = unip.data.check(sources=source, out=tmp_path / "checked", **small)
    assert [(each.kind, "64x64, more than" in each.detail) for each in checked.findings] == [("bomb", True)] * 3


def test_packed_images_obey_it(images: Path, tmp_path: Path) -> None:
    unip.data.build(sources=str(images), out=tmp_path / "built")
    packed = unip.data.pack(manifest=tmp_path / "built/manifest.parquet", out=tmp_path / "packed")
    assert packed.images == 3
    with pytest.raises(UnipError, match="no image of frames can be read"):
        unip.data.stats(sources=str(tmp_path / "packed"), max_pixels=4095)


def test_videos_obey_it(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    from unip.data.manifests.videos import _decode, _open

    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "gray"
        for packet in stream.encode(av.VideoFrame.from_ndarray(PIXELS, format="gray")):
            container.mux(packet)
        container.mux(list(stream.encode()))
    assert len(list(_decode(av, str(tmp_path / "x.mkv"), {0}, grey=True))) == 1
    with limited_to(4095), pytest.raises(UnipError, match="64x64, more than"), _open(av, str(tmp_path / "x.mkv")):
        pass


def test_a_size_of_nothing() -> None:
    for height, width in ((0, 1), (1, -1)):
        with pytest.raises(UnipError, match=f"frame claims a size of {width}x{height} pixels"):
            check_pixels(height, width, "frame")
