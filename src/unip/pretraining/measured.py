"""The NMI of a teacher's layers, kept in the user's cache folder: a dry run and the run after it measure once.

An entry is named by a hash of all that the values depend on: weights, architecture, size, and the pixels of the images.
So an entry is never out of date. Nothing is lost with the folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable
from pathlib import Path

import torch
from platformdirs import user_cache_path

from unip.documents import try_json
from unip.errors import UnipError
from unip.opening import read_regular
from unip.outputs import write_json
from unip.vit.backbone import Backbone

log = logging.getLogger(__name__)

VERSION = 1  # raise it when NMI is computed otherwise


def measurement_path(teacher: Backbone, squares: Iterable[torch.Tensor], side: int) -> Path | None:
    """Return where the NMI of a teacher's layers on some images is kept; None for random weights.

    Args:
        teacher: Its weights are told by the hash of their file.
        squares: Batches of the images, ``(N, 1, size, size)`` uint8, in order.
        side: Of the images as the teacher sees them, pixels.
    """
    if teacher.report is None:
        return None
    facts = [VERSION, teacher.report.sha256, teacher.spec.model_dump(mode="json"), side]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for batch in squares:
        key.update(batch.numpy().tobytes())
    return user_cache_path("unip") / "nmi" / f"{key.hexdigest()}.json"


def read_measurement(path: Path | None, depth: int) -> list[float] | None:
    """Return the NMI of each of ``depth`` layers, if it is kept and whole."""
    if path is None:
        return None
    try:
        values = try_json(read_regular(path), list[float])
    except OSError:
        return None
    return values if values and len(values) == depth else None


def keep_measurement(path: Path | None, values: list[float]) -> None:
    """Keep the NMI of each layer; where it cannot be kept it is measured again next time."""
    if path is None or not all(map(math.isfinite, values)):  # JSON has no NaN
        return
    try:
        path.unlink(missing_ok=True)  # damaged, or another process was quicker
        write_json(path, values)
    except (OSError, UnipError) as error:
        log.debug(f"not kept: {error}")
