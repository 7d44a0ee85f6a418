"""Arrays in memory that a process shares with those that it forks: between them they travel by place, not by bytes."""

from __future__ import annotations

import itertools
import mmap
import os
import sys
from collections import deque
from collections.abc import Callable
from math import prod
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

MAX_BYTES = 2**30  # of one arena; only what is written to takes memory
MAX_SLOTS = 512
ALIGNMENT = 64  # bytes

_numbers = itertools.count()
_arenas: WeakValueDictionary[int, Arena] = WeakValueDictionary()  # a forked process has those of its parent


class Arena:
    """Memory in slots, one for all arrays of a frame, for this process and those that it forks from now on.

    Only the process that made it gives slots away. One that has no slot left gives none, and arrays travel as ever.

    Args:
        slot_bytes: Of a slot.
        slots: How many there are.
    """

    def __init__(self, slot_bytes: int, slots: int) -> None:
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        # without a name: it is gone with the last process, however that ends
        self.memory = np.frombuffer(mmap.mmap(-1, self.slot_bytes * slots), np.uint8)
        self.start, self.owner, self.number = self.memory.ctypes.data, os.getpid(), next(_numbers)
        self.free = deque(reversed(range(slots)))
        self.lent: dict[int, Slot] = {}  # slots that another process fills
        self.slots: WeakValueDictionary[int, Slot] = WeakValueDictionary()
        _arenas[self.number] = self

    def lend(self) -> int | None:
        """Return the number of a slot for another process to fill, until :meth:`take_back`; None: there is none."""
        if not self.free:
            return None
        slot = self.fill(self.free.pop())  # the last one used: its pages are there
        self.lent[slot.number] = slot
        return slot.number

    def take_back(self, number: int | None) -> None:
        """Leave a slot that was lent to the arrays in it."""
        if number is not None:
            del self.lent[number]

    def slot(self, number: int) -> Slot:
        """Return a slot in use that this process or its parent gave away."""
        return self.slots.get(number) or self.fill(number)

    def fill(self, number: int) -> Slot:
        """Return a slot with nothing in it."""
        found = self.slots[number] = Slot(self, number)
        return found


class Slot:
    """A part of an arena; it is free again when nobody holds an array in it, of whatever kind and by whatever view."""

    def __init__(self, arena: Arena, number: int) -> None:
        self.arena, self.number, self.used = arena, number, 0
        first = arena.start + number * arena.slot_bytes
        self.__array_interface__ = {
            "data": (first, False),
            "shape": (arena.slot_bytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        if getpid() == self.arena.owner:  # at Python's end, modules may be gone
            self.arena.free.append(self.number)

    def put(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Copy an array to the slot and return that of the slot; if it has no room left, the array itself."""
        first = -(-self.used // ALIGNMENT) * ALIGNMENT
        if first + array.nbytes > self.arena.slot_bytes:
            return array
        there = self.at(first, array.shape, array.dtype)
        np.copyto(there, array)
        return there

    def at(self, first: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> SharedArray:
        """Return the array that begins at a byte of the slot."""
        end = first + prod(shape) * np.dtype(dtype).itemsize
        self.used = max(self.used, end)
        return np.asarray(self)[first:end].view(dtype).reshape(shape).view(SharedArray)

    def begin_of(self, array: npt.NDArray[Any]) -> int | None:
        """Return at which byte of the slot an array begins; None: it lies elsewhere, or not in one piece."""
        first = array.ctypes.data - self.arena.start - self.number * self.arena.slot_bytes
        inside = 0 <= first <= first + array.nbytes <= self.arena.slot_bytes
        return first if inside and array.flags.c_contiguous else None

    def as_shared(self, array: npt.NDArray[Any]) -> SharedArray | None:
        """Return an array that lies in the slot as one that travels by its place; None: it lies elsewhere."""
        first = self.begin_of(array)
        return None if first is None else self.at(first, array.shape, array.dtype)


class SharedArray(np.ndarray[Any, np.dtype[Any]]):
    """An array in a slot. Pickled, it is its place; a copy, or what is computed from it, is pickled as any other."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return the place if there is one, else what numpy does."""
        slot = slot_of(self)
        first = None if slot is None else slot.begin_of(self)
        if slot is None or first is None:
            return np.asarray(self).__reduce_ex__(protocol)
        return _shared_array, (slot.arena.number, slot.number, first, self.shape, self.dtype.str)


def slot_of(array: npt.NDArray[Any]) -> Slot | None:
    """Return the slot in which an array lies, if it lies in one."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, Slot) else None


def make_arena(slot_bytes: int) -> Arena | None:
    """Return an arena of as many slots as are useful; None: processes are not forked here, or there is no memory."""
    if sys.platform != "linux" or not 0 < slot_bytes <= MAX_BYTES:
        return None
    try:
        return Arena(slot_bytes, min(MAX_SLOTS, MAX_BYTES // slot_bytes))
    except OSError:
        return None


def _shared_array(arena: int, slot: int, first: int, shape: tuple[int, ...], dtype: str) -> SharedArray:
    return _arenas[arena].slot(slot).at(first, shape, dtype)
