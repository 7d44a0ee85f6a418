"""Where torch.compile keeps what it compiled: in the user's cache folder, not in one that a restart empties."""

from __future__ import annotations

import os

from platformdirs import user_cache_path

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"  # of torch


def keep_compiled() -> None:
    """Let torch keep compiled kernels from one call to the next; a place that the user has chosen stays."""
    os.environ.setdefault(VARIABLE, str(user_cache_path("unip") / "inductor"))
