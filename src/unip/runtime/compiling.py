"""What torch.compile needs on a machine, and where it keeps the kernels that it made."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_cache_path

from unip.errors import UnipError
from unip.outputs import write_json
from unip.paths import is_file, is_writable

log = logging.getLogger(__name__)

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"  # torch's own setting


def obstacle_to_compiling() -> str:
    """Say what torch.compile lacks to make kernels for a GPU of this machine; "" if it has all."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    compilers = [os.environ.get("CC", ""), "cc", "gcc", "clang"]  # triton builds the code that starts its kernels
    return "" if any(map(shutil.which, filter(None, compilers))) else "there is no C compiler"


def kernels_folder() -> Path:
    """Return where compiled kernels are kept, see :func:`keep_kernels`."""
    told = os.environ.get(CACHE_VARIABLE)
    return Path(told) if told else user_cache_path("unip") / "compiled"


def keep_kernels() -> None:
    """Have torch.compile keep its kernels in the user's cache folder, unless torch was told another one.

    Its own choice is the folder for temporary files, which many machines empty. Without the kernels, a first step takes
    several times as long. Where the folder cannot be made, torch's choice stays.
    """
    if os.environ.get(CACHE_VARIABLE):
        return
    folder = kernels_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.debug(f"kernels are not kept in {folder}: {error}")
        return
    if is_writable(folder):
        os.environ[CACHE_VARIABLE] = str(folder)


def start_compilers() -> None:
    """Start the processes that make kernels for a GPU: they take seconds, in which other things can be done.

    Else torch.compile starts them when it compiles for the first time.
    """
    from torch._inductor.async_compile import maybe_warm_pool  # here: it takes a second

    maybe_warm_pool()


def was_compiled(kind: Mapping[str, str]) -> bool:
    """Whether a training with kernels of this kind was compiled here before, so that most of them are kept.

    Args:
        kind: All that the kernels depend on.
    """
    return is_file(_note(kind))


def note_compiled(kind: Mapping[str, str]) -> None:
    """Note beside the kernels that those of a kind are there now; where it cannot be noted, nobody knows of them."""
    try:
        if not was_compiled(kind):
            write_json(_note(kind), dict(kind))
    except (OSError, UnipError) as error:  # or another process was quicker
        log.debug(f"not noted: {error}")


def _note(kind: Mapping[str, str]) -> Path:
    key = hashlib.sha256(json.dumps(dict(kind), sort_keys=True).encode())
    return kernels_folder() / "unip" / f"{key.hexdigest()[:32]}.json"
