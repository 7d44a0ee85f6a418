"""The batches of a run: sample position = step x batch + i, so any step can be made again, on any number of ranks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from unip.errors import UnipError
from unip.runtime.workers import end_loading, load, next_batch, start_of_workers, usable_cores
from unip.training.config import TrainingConfig

Batch = tuple[torch.Tensor, ...]
WORKERS = 16  # loader processes at most
LIGHT_WORKERS = 4  # where the device does most of the work


class PositionDataset(Protocol):
    """A dataset without end: the item at a position is a pure function of (seed, position)."""

    def __getitem__(self, position: int) -> Any:
        """Return a tensor or a tuple of tensors."""
        ...


@runtime_checkable
class FinishedOnDevice(Protocol):
    """A dataset whose batches are not samples yet: the device makes them."""

    def finish(self, batch: Batch) -> Batch:
        """Turn a batch of items on the device into samples, without waiting for it."""
        ...


class _Made(NamedTuple):
    """A batch as a worker hands it over; pinning and shared memory look into named tuples."""

    tensors: Batch
    seconds: float
    problem: tuple[str, str] | None


class _Batches(Dataset[Any]):
    """Makes whole batches, so that the time they take can be told.

    A UnipError is handed over as a value: raised in a worker, its text would be that worker's traceback.
    """

    def __init__(self, dataset: PositionDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, positions: list[int]) -> _Made:
        begun = time.perf_counter()
        try:
            items = [self.dataset[position] for position in positions]
        except UnipError as error:
            return _Made((), 0.0, (error.what, error.fix))
        tensors = tuple(default_collate([item if isinstance(item, tuple) else (item,) for item in items]))
        return _Made(tensors, time.perf_counter() - begun, None)


def _as_made(batch: Any) -> Any:
    return batch  # batched already


class Positions:
    """For each pass of each step, the positions of this rank's samples."""

    def __init__(self, config: TrainingConfig, *, start: int, rank: int, ranks: int) -> None:
        if config.batch_size % (ranks * config.accumulate):
            raise UnipError(
                f"batch_size {config.batch_size} cannot be shared by {ranks} devices x {config.accumulate} passes",
                "Choose a batch size that both divide.",
            )
        self.start, self.steps, self.batch = start, config.steps, config.batch_size
        self.rank, self.ranks, self.passes = rank, ranks, config.accumulate
        self.share = self.batch // (ranks * config.accumulate)

    def within_batch(self, number: int) -> slice:
        """Return which samples of a step's batch this rank sees in pass ``number``."""
        first = (number * self.ranks + self.rank) * self.share
        return slice(first, first + self.share)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            for number in range(self.passes):
                part = self.within_batch(number)
                yield list(range(step * self.batch + part.start, step * self.batch + part.stop))

    def __len__(self) -> int:
        return (self.steps - self.start) * self.passes


def resolve_workers(workers: int | str, most: int = WORKERS) -> int:
    """Return how many loader processes ``auto`` means: one a core, at most so many, none where there are two cores."""
    if isinstance(workers, int):
        return workers
    cores = usable_cores()
    return 0 if cores <= 2 else min(most, cores)


class Feed:
    """Each pass's batch of this rank, on ``device``, from step ``start`` on, and what making and awaiting them took.

    Raises:
        UnipError: The batch size cannot be shared; while iterating, a sample cannot be made (say, a truncated file).
    """

    def __init__(
        self,
        dataset: PositionDataset,
        config: TrainingConfig,
        *,
        start: int,
        rank: int,
        ranks: int,
        device: torch.device,
    ) -> None:
        self.finish = dataset.finish if isinstance(dataset, FinishedOnDevice) else None
        self.workers = resolve_workers(config.workers, most=LIGHT_WORKERS if self.finish else WORKERS)
        self.positions = Positions(config, start=start, rank=rank, ranks=ranks)
        self.device = device
        self._made, self._making, self._waiting = 0, 0.0, 0.0
        self._loader: Iterator[_Made] = load(
            DataLoader(
                _Batches(dataset),
                batch_sampler=self.positions,
                num_workers=self.workers,
                generator=torch.Generator(),  # else making the iterator draws from the generator that dropout uses
                collate_fn=_as_made,
                pin_memory=device.type == "cuda",
                worker_init_fn=start_of_workers(),
                prefetch_factor=4 if self.workers else None,
                # forked workers share the cache of decoded images
                multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            )
        )

    def __iter__(self) -> Iterator[Batch]:
        return self

    def close(self) -> None:
        """End the loader processes now, also where an exception keeps this feed alive."""
        end_loading(self._loader)

    def __next__(self) -> Batch:
        begun = time.perf_counter()
        made = next_batch(self._loader)
        self._waiting += time.perf_counter() - begun
        if made.problem is not None:
            raise UnipError(*made.problem)
        self._made += self.positions.share
        self._making += made.seconds
        batch = tuple(tensor.to(self.device, non_blocking=True) for tensor in made.tensors)
        return batch if self.finish is None else self.finish(batch)

    def account(self) -> tuple[float, float]:
        """Return, since the last call, the samples/s that this rank's workers can make and the seconds of waiting."""
        capacity = max(1, self.workers) * self._made / max(self._making, 1e-9)
        waiting = self._waiting
        self._made, self._making, self._waiting = 0, 0.0, 0.0
        return capacity, waiting
