"""Logs for TensorBoard beside a run's own log: of use, but no reason to end a run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.training.run_folder import RunFolder

log = logging.getLogger(__name__)


class TensorBoard:
    """Writes to ``RUN/tensorboard``; what it is given is dropped where the package is missing or a disk is full.

    Args:
        run: The run; new files are put on its list as growing ones.
    """

    def __init__(self, run: RunFolder) -> None:
        self._writer: Any = None
        self._hook = threading.excepthook
        self._place = run.path / "tensorboard"
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # the extra `tensorboard` is not installed; log.jsonl has the same numbers
            return
        make: Any = SummaryWriter  # untyped in torch
        threading.excepthook = self._ignore_its_thread
        before = set(run.outputs.files("tensorboard"))
        self._try(lambda: setattr(self, "_writer", make(str(self._place))))
        for name in set(run.outputs.files("tensorboard")) - before:
            run.outputs.grow(name)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers by their names."""
        for name, value in values.items():
            if self._writer is not None:
                self._try(partial(self._writer.add_scalar, name, value, step))

    def picture(self, pixels: npt.NDArray[np.uint8], step: int) -> None:
        """Write an image, ``(H, W, 3)`` uint8."""
        if self._writer is not None:
            self._try(partial(self._writer.add_image, "picture", pixels, step, dataformats="HWC"))

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._try(self._writer.close)
        threading.excepthook = self._hook

    def _ignore_its_thread(self, args: threading.ExceptHookArgs) -> None:
        """Print no traceback of the thread that writes: the next call raises the same error."""
        if not type(args.thread).__module__.startswith("tensorboard."):
            self._hook(args)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            self._writer = None
            why = error.strerror or error
            log.warning(f"{self._place} is written no further ({why}); log.jsonl has the numbers")
