"""What torch.compile needs on a machine, and where it keeps the kernels that it made."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil

from platformdirs import user_cache_path

log = logging.getLogger(__name__)

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"  # torch's own setting


def obstacle_to_compiling() -> str:
    """Say what torch.compile lacks to make kernels for a GPU of this machine; "" if it has all."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    compilers = [os.environ.get("CC", ""), "cc", "gcc", "clang"]  # triton builds the code that starts its kernels
    return "" if any(map(shutil.which, filter(None, compilers))) else "there is no C compiler"


def keep_kernels() -> None:
    """Have torch.compile keep its kernels in the user's cache folder, unless torch was told another one.

    Its own choice is the folder for temporary files, which many machines empty. Without the kernels, a first step takes
    several times as long. Where the folder cannot be made, torch's choice stays.
    """
    if os.environ.get(CACHE_VARIABLE):
        return
    folder = user_cache_path("unip") / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.debug(f"kernels are not kept in {folder}: {error}")
        return
    if os.access(folder, os.W_OK):
        os.environ[CACHE_VARIABLE] = str(folder)
