import gc
import multiprocessing
import pickle
import sys

import numpy as np
import pytest
import torch

from unip.runtime.shared import ALIGNMENT, Arena, SharedArray, make_arena, slot_of


@pytest.fixture
def arena() -> Arena:
    return Arena(4096, 3)


def square(pipe, arena, number):
    """In another process: fill a slot, then change what the parent put there."""
    slot = arena.fill(number)
    pipe.send(slot.put(np.arange(12, dtype=np.float32).reshape(3, 4) ** 2))
    array = pipe.recv()
    array *= 2
    pipe.send(None)


@pytest.mark.skipif(sys.platform != "linux", reason="shares memory with a process that it forks")
def test_arrays_of_another_process_travel_by_their_place(arena):
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    number = arena.lend()
    process = context.Process(target=square, args=(there, arena, number))
    process.start()
    array = here.recv()
    expected = np.arange(12, dtype=np.float32).reshape(3, 4) ** 2
    np.testing.assert_array_equal(array, expected)
    more = slot_of(array).put(np.arange(5, dtype=np.int64))
    assert len(pickle.dumps(more)) < 200 and slot_of(array).used == ALIGNMENT + 40
    here.send(more)
    here.recv()
    process.join()
    np.testing.assert_array_equal(more, 2 * np.arange(5))
    np.testing.assert_array_equal(array, expected)  # it was not overwritten by what came after it


def test_a_slot_is_free_when_no_view_is_left(arena):
    numbers = [arena.lend() for _ in range(4)]
    assert numbers == [0, 1, 2, None]
    array = arena.slot(1).put(np.arange(10, dtype=np.uint8))
    views = [np.asarray(array)[2:], torch.from_numpy(array), np.ascontiguousarray(array), array[::2].view(np.uint8)]
    for number in numbers:
        arena.take_back(number)
    del array
    gc.collect()
    assert list(arena.free) == [0, 2]  # in the order of their end
    while views:
        assert 1 not in arena.free
        views.pop()
    assert list(arena.free) == [0, 2, 1]
    assert arena.lend() == 1 and arena.slot(1).used == 0


def test_what_lies_elsewhere_is_pickled_as_any_other(arena):
    slot = arena.fill(0)
    array = slot.put(np.arange(16, dtype=np.uint8).reshape(4, 4))
    assert isinstance(array, SharedArray) and slot_of(array) is slot
    for other in (array.copy(), array + 1, array[:, 1:3], array.T):
        again = pickle.loads(pickle.dumps(other))
        assert type(again) is np.ndarray and slot_of(again) is None
        np.testing.assert_array_equal(again, other)
    part = pickle.loads(pickle.dumps(array[1:3]))
    assert slot_of(part) is slot and part.ctypes.data == array[1:3].ctypes.data
    assert slot.as_shared(array.copy()) is None
    np.testing.assert_array_equal(slot.as_shared(torch.from_numpy(array)[2:].numpy()), array[2:])


def test_what_does_not_fit_stays_where_it_is(arena):
    slot, large = arena.fill(0), np.zeros(4000, np.uint8)
    assert slot_of(slot.put(large)) is slot
    assert slot.put(large) is large
    assert slot_of(slot.put(large[:32])) is slot


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is none")
def test_an_arena_is_as_large_as_is_useful(monkeypatch):
    made = make_arena(1000)
    assert made is not None and len(made.free) == 512
    assert make_arena(2**40) is None and make_arena(0) is None
    monkeypatch.setattr("sys.platform", "win32")
    assert make_arena(1000) is None
