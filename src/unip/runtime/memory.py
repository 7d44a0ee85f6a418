"""Whether decoded images may stay in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

Cache = Literal["auto", "ram", "none"]

FREE_MEMORY_SHARE = 0.25  # of the free memory that decoded images may take


def use_ram(cache: Cache, size: int) -> bool:
    """Say whether ``size`` bytes of decoded images are kept in memory.

    Args:
        cache: ``"ram"`` always, ``"none"`` never, ``"auto"`` when all processes of this machine together take at most
            a quarter of what is free.
        size: Bytes that one process would keep.
    """
    if cache != "auto":
        return cache == "ram"
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by torchrun and accelerate launch
    return size * processes <= FREE_MEMORY_SHARE * free_memory()


def free_memory() -> int:
    """Return the bytes this process may still take: what the machine has available, within the container's limit."""
    free = [_available()]
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no control groups here
    return max(0, min(free))


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # no better word outside Linux
    except (AttributeError, OSError, ValueError):
        return 0


def resident_bytes() -> int | None:
    """Return the memory that this process takes, None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    except (OSError, StopIteration):
        return None
