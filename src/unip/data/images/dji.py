"""Temperatures of DJI R-JPEGs by DJI's own Thermal SDK, the one authority on them: a shared library with a C interface.

The counts in the files are read in ``radiometric.py``.

DJI offers it for Linux and Windows on x86 under terms of its own, so it is neither part of this package nor fetched by
it. The user unpacks it once and says where it lies (:func:`thermal_sdk`, ``unip data thermal-sdk``); its library is
copied into the Python environment, as an installed package would be. So every verb and every worker process finds it,
and no path gets into the conversion that is saved with data and models. A ``libdirp`` that the system's loader finds by
itself is used too.

The facts about its interface are those of its header ``dirp_api.h`` (MIT): handles made from the bytes of a file, which
must stay in place; sizes in bytes; 0 or a negative code from every function.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import os
import shutil
import sys
from contextlib import ExitStack, suppress
from ctypes import POINTER, byref, c_int32, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.config import verb
from unip.data.images.config import ThermalSdkConfig
from unip.errors import UnipError
from unip.outputs import output_folder, writing
from unip.paths import is_file, list_folder

log = logging.getLogger(__name__)

Kelvin = npt.NDArray[np.float32]

LIBRARY = "libdirp.dll" if sys.platform == "win32" else "libdirp.so"
SDK_FOLDER = Path(sys.prefix) / "share" / "unip" / "dji-thermal-sdk"  # of the library and those that it loads
ZERO_CELSIUS = 273.15  # Kelvin
MAX_FRAME_PIXELS = 10**8  # a frame that claims more was misread; cameras have up to 1280 x 1024
LIBRARY_HINT = (
    "It needs the library for this system and processor: 64-bit Linux or Windows on x86, as DJI's zip file holds it."
)
NEWER_SDK_HINT = "Newer releases of the SDK know newer cameras; a file that was edited has lost what the SDK needs."

# What the codes mean; others are not documented.
CODES = {
    -1: "out of memory",
    -4: "the counts in the file are invalid",
    -5: "the header of the counts is invalid",
    -6: "the calibration curve in the file is invalid",
    -7: "the file is no R-JPEG that it knows",
    -8: "the frame has another size",
    -10: "the picture has a format that it does not know",
    -12: "it cannot do this for this camera",
    -13: "something that it needs is not ready",
    -14: "it is not activated",
}


class _Resolution(ctypes.Structure):
    _fields_ = (("width", c_int32), ("height", c_int32))


# Arguments of the functions that every release has; the other way to measure takes what `measure` takes.
SIGNATURES = {
    "create_from_rjpeg": (c_void_p, c_int32, POINTER(c_void_p)),  # bytes of the file, how many, the handle
    "get_rjpeg_resolution": (c_void_p, POINTER(_Resolution)),
    "measure": (c_void_p, c_void_p, c_int32),  # handle, place for the values, its size in bytes
    "destroy": (c_void_p,),
}
_LOCK = Lock()


@dataclass(frozen=True)
class ThermalSdkResult:
    """Which library was taken over, and where it is now (or would be, after a dry run)."""

    source: Path
    library: Path


@verb(ThermalSdkConfig)
def thermal_sdk(config: ThermalSdkConfig) -> ThermalSdkResult:
    """Copy DJI's Thermal SDK into this Python environment, for temperatures of DJI R-JPEGs; replaces an earlier one.

    Raises:
        UnipError: There is no library in it that works here, or the environment cannot be written.
    """
    found = sorted(path for path in config.source.absolute().rglob(LIBRARY) if is_file(path))
    if not found:
        raise UnipError(f"no {LIBRARY} in {config.source}", "Give the folder that DJI's zip file was unpacked to.")
    problem = ""
    for library in found:  # one for each width of addresses
        try:
            _Sdk(library)
        except UnipError as error:
            problem = problem or error.what
            continue
        if not config.dry_run:
            _copy(library.parent, overwrite=config.overwrite)
        log.info(
            f"DJI's Thermal SDK: {library} can be loaded; "
            f"{'not copied' if config.dry_run else f'copied to {SDK_FOLDER}'}"
        )
        return ThermalSdkResult(library, SDK_FOLDER / LIBRARY)
    raise UnipError(problem, LIBRARY_HINT)


def _copy(source: Path, *, overwrite: bool) -> None:
    files = [file for file in list_folder(source) if is_file(file)]
    with output_folder(SDK_FOLDER, overwrite=overwrite) as outputs:
        outputs.check(*outputs.files(""), *(file.name for file in files))
        with ExitStack() as stack:  # all are copied before the first takes its place
            for file in files:
                shutil.copy(file, stack.enter_context(writing(SDK_FOLDER / file.name)))
        outputs.remove(*(name for name in outputs.files("") if name not in {file.name for file in files}))
    _opened.cache_clear()


def dji_kelvin(data: bytes, name: Path | str) -> Kelvin | None:
    """Measure a frame by DJI's Thermal SDK, with the emissivity, distance and air that the SDK takes from the file.

    One frame at a time in each process, as nobody says that the SDK may be called from several threads.

    Args:
        data: The bytes of an R-JPEG.
        name: For messages.

    Returns:
        Kelvin, float32 ``(H, W)``; None if there is no SDK.

    Raises:
        UnipError: The SDK cannot be loaded, or it refuses the file.
    """
    with _LOCK:
        sdk = _opened()
        return None if sdk is None else sdk.measure(data, name)


@lru_cache(maxsize=1)
def _opened() -> _Sdk | None:
    _keep_forks_apart()
    if is_file(SDK_FOLDER / LIBRARY):
        return _Sdk(SDK_FOLDER / LIBRARY)
    known = ctypes.util.find_library(LIBRARY if sys.platform == "win32" else "dirp")
    return _Sdk(Path(known)) if known else None


@lru_cache(maxsize=1)
def _keep_forks_apart() -> None:
    """Let no worker be forked while a thread measures: it would start with a lock that nobody opens."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


class _Sdk:
    """The loaded library. It must not be used by two threads at once."""

    def __init__(self, library: Path) -> None:
        try:
            self._library = _load(library)
            for function, arguments in SIGNATURES.items():
                found = getattr(self._library, f"dirp_{function}")
                found.argtypes, found.restype = arguments, c_int32
        except (OSError, AttributeError) as error:  # not for this machine; a function is not there
            raise UnipError(f"DJI's Thermal SDK, {library}, cannot be loaded: {error}", LIBRARY_HINT) from error
        self._exact = hasattr(self._library, "dirp_measure_ex")  # not in the earliest releases
        if self._exact:
            self._library.dirp_measure_ex.argtypes = SIGNATURES["measure"]
        if hasattr(self._library, "dirp_set_verbose_level"):
            self._library.dirp_set_verbose_level(0)  # prints nothing

    def measure(self, data: bytes, name: Path | str) -> Kelvin:
        """Return the temperatures of a frame, see :func:`dji_kelvin`."""
        handle = c_void_p()
        self._call("create_from_rjpeg", name, data, len(data), byref(handle))
        try:
            size = _Resolution()
            self._call("get_rjpeg_resolution", name, handle, byref(size))
            if size.width <= 0 or size.height <= 0 or size.width * size.height > MAX_FRAME_PIXELS:
                raise UnipError(
                    f"DJI's Thermal SDK sees a frame of {size.width}x{size.height} in image {name}", NEWER_SDK_HINT
                )
            values = np.zeros((size.height, size.width), dtype=np.float32 if self._exact else np.int16)
            self._call("measure_ex" if self._exact else "measure", name, handle, values.ctypes.data, values.nbytes)
        finally:
            self._library.dirp_destroy(handle)
        celsius = values.astype(np.float32) / np.float32(1 if self._exact else 10)
        return celsius + np.float32(ZERO_CELSIUS)

    def _call(self, function: str, name: Path | str, *arguments: Any) -> None:
        code = getattr(self._library, f"dirp_{function}")(*arguments)
        if code != 0:
            meaning = f"{CODES[code]}, code {code}" if code in CODES else f"code {code}"
            raise UnipError(f"DJI's Thermal SDK refuses image {name} ({meaning}, from dirp_{function})", NEWER_SDK_HINT)


def _load(library: Path) -> ctypes.CDLL:
    if library.is_absolute() and sys.platform != "win32":  # elsewhere the loader itself looks beside the library
        beside = sorted(path for path in library.parent.glob("*.so*") if path.name != library.name and is_file(path))
        for path in beside * 2:  # some need each other
            with suppress(OSError):
                ctypes.CDLL(str(path))
    return ctypes.CDLL(str(library))
