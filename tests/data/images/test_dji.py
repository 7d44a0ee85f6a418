"""Temperatures through DJI's Thermal SDK, with a stand-in for its library that is compiled here."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from torch.utils.data import DataLoader, Dataset

from tests.data.images.radiometric_files import dji_jpeg
from unip.data.images import dji
from unip.data.images.config import Conversion
from unip.data.images.decoding import read_grey8, read_samples
from unip.data.images.dji import LIBRARY, dji_kelvin, thermal_sdk
from unip.data.images.radiometric import read_temperature
from unip.errors import UnipError
from unip.runtime.workers import map_threads

COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(not COMPILER or LIBRARY[-3:] != ".so", reason="needs a C compiler on Linux")
COUNTS = (12000 + np.arange(60 * 80).reshape(60, 80)).astype(np.uint16)
KELVIN = (293.15 + np.arange(60 * 80).reshape(60, 80) / 100).astype(np.float32)
WINDOW = Conversion(method="window", window=(300, 320))
Build = Callable[..., Path]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another environment, without the SDK."""
    monkeypatch.setattr(dji, "SDK_FOLDER", tmp_path / "environment/dji-thermal-sdk")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    dji._opened.cache_clear()
    yield dji.SDK_FOLDER
    dji._opened.cache_clear()


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Compile a stand-in and lay it out as DJI's zip file does; returns the SDK's folder."""

    def built(*options: str, name: str = "sdk") -> Path:
        folder = tmp_path / name / "tsdk-core/lib/linux/release_x64"
        folder.mkdir(parents=True)
        source = Path(__file__).with_name("fake_dirp.c")
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", folder / LIBRARY, source, *options], check=True)
        (folder / "libv_list.ini").write_text("[vendors]\n")
        wrong = tmp_path / name / "tsdk-core/lib/linux/another"  # its neighbour for other processors comes first
        wrong.mkdir()
        (wrong / LIBRARY).write_bytes(b"\x7fELF of another machine")
        return tmp_path / name

    return built


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(dji_jpeg(COUNTS, np.zeros((60, 80, 3), np.uint8)))
    return path


def number(name: str) -> int:
    return ctypes.c_int32.in_dll(ctypes.CDLL(str(dji.SDK_FOLDER / LIBRARY)), name).value


@needs_compiler
def test_temperatures_come_from_the_sdk_once_it_is_taken_over(build: Build, image: Path, place: Path) -> None:
    with pytest.raises(UnipError, match="only DJI's Thermal SDK") as caught:
        read_temperature(image)
    assert "unip data thermal-sdk FOLDER" in caught.value.fix
    sdk = build()
    assert thermal_sdk(source=sdk, dry_run=True).source == sdk / "tsdk-core/lib/linux/release_x64" / LIBRARY
    assert not place.exists()
    result = thermal_sdk(source=sdk)
    assert result.library == place / LIBRARY
    assert {path.name for path in place.iterdir()} == {LIBRARY, "libv_list.ini", ".unip"}
    kelvin = read_temperature(image)
    assert kelvin is not None and kelvin.dtype == np.float32
    np.testing.assert_allclose(kelvin, KELVIN, atol=1e-4)
    assert np.abs(read_grey8(image, WINDOW) - np.clip((KELVIN - 300) / 20 * 255, 0, 255)).max() <= 0.51
    assert number("open_handles") == 0


@needs_compiler
def test_other_conversions_see_the_same_with_the_sdk_and_without(build: Build, image: Path) -> None:
    thermal_sdk(source=build())
    np.testing.assert_array_equal(read_samples(image, Conversion(method="minmax", radiometric=True)), COUNTS)


@needs_compiler
def test_early_releases_measure_tenths_of_a_degree(build: Build, image: Path) -> None:
    thermal_sdk(source=build("-DOLD"))
    kelvin = read_temperature(image)
    assert kelvin is not None and kelvin.dtype == np.float32
    np.testing.assert_allclose(kelvin, KELVIN, atol=0.101)


@needs_compiler
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("-DREFUSES=-7", r"refuses image .*a.jpg \(the file is no R-JPEG that it knows, code -7, from dirp_create"),
        ("-DREFUSES=-40", r"refuses image .*a.jpg \(code -40, from dirp_create_from_rjpeg\)"),
        ("-DWIDTH=81", r"refuses image .*a.jpg \(the frame has another size, code -8, from dirp_measure_ex\)"),
        ("-DWIDTH=0", "sees a frame of 0x60 in image .*a.jpg"),
        ("-DWIDTH=2000000000", "sees a frame of 2000000000x60"),
        ("-DHOT", "the temperatures in image .*a.jpg make no sense"),
    ],
)
def test_what_the_sdk_refuses_is_one_message(build: Build, image: Path, option: str, message: str) -> None:
    thermal_sdk(source=build(option))
    with pytest.raises(UnipError, match=message):
        read_temperature(image)
    assert number("open_handles") == 0


@needs_compiler
def test_a_library_that_does_not_load_is_named(build: Build, image: Path, tmp_path: Path, place: Path) -> None:
    with pytest.raises(UnipError, match=rf"no {LIBRARY} in .*nothing"):
        thermal_sdk(source=tmp_path / "nothing")
    with pytest.raises(UnipError, match=r"cannot be loaded: .*dirp_measure") as caught:
        thermal_sdk(source=build("-DNO_MEASURE", "-DOLD") / "tsdk-core/lib/linux/release_x64")
    assert "64-bit Linux or Windows" in caught.value.fix
    assert not place.exists()
    place.mkdir(parents=True)
    (place / LIBRARY).write_text("hello")
    with pytest.raises(UnipError, match=f"{LIBRARY}, cannot be loaded: "):
        read_temperature(image)
    better = build(name="better")
    with pytest.raises(UnipError, match="not written by unip"):
        thermal_sdk(source=better, overwrite=True)
    (place / LIBRARY).unlink()
    thermal_sdk(source=better)
    thermal_sdk(source=better)  # replaces it
    assert read_temperature(image) is not None


@needs_compiler
def test_libraries_beside_it_are_found(
    build: Build, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = build()
    folder = sdk / "tsdk-core/lib/linux/release_x64"
    (tmp_path / "part.c").write_text("int part(void) { return 0; }")
    part = ["-shared", "-fPIC", "-Wl,-soname,libv_part.so", "-o", folder / "libv_part.so", tmp_path / "part.c"]
    subprocess.run([COMPILER, *part], check=True)
    needs = [f"-L{folder}", "-Wl,--no-as-needed", "-lv_part"]
    source = Path(__file__).with_name("fake_dirp.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", folder / LIBRARY, source, *needs], check=True)
    monkeypatch.chdir(tmp_path)
    thermal_sdk(source=sdk.name)
    assert read_temperature(image) is not None


@needs_compiler
def test_one_of_the_system_is_used_too(build: Build, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = build() / "tsdk-core/lib/linux/release_x64" / LIBRARY
    monkeypatch.setattr("ctypes.util.find_library", lambda name: str(library) if name == "dirp" else None)
    np.testing.assert_allclose(dji_kelvin(image.read_bytes(), image), KELVIN, atol=1e-4)


class Frames(Dataset[npt.NDArray[np.uint8]]):
    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        return read_grey8(self.path, WINDOW)


@needs_compiler
def test_threads_take_turns_and_workers_measure_for_themselves(build: Build, image: Path) -> None:
    thermal_sdk(source=build())
    expected = read_grey8(image, WINDOW)
    for grey in map_threads(lambda _: read_grey8(image, WINDOW), range(40), "reading", workers=4, quiet=True):
        np.testing.assert_array_equal(grey, expected)
    assert number("overlaps") == 0 and number("open_handles") == 0
    frames = map_threads(lambda _: read_grey8(image, WINDOW), range(200), "reading", workers=2, quiet=True)
    next(frames)  # so that workers are forked while threads measure
    for batch in DataLoader(Frames(image), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=60):
        np.testing.assert_array_equal(batch[1], expected)
    assert sum(1 for _ in frames) == 199
