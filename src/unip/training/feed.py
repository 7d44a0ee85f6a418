"""The batches of a run: sample position = step x batch + i, so any step can be made again, on any number of ranks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from unip.data.parallel import usable_cores
from unip.errors import UnipError
from unip.training.config import TrainingConfig
from unip.training.signals import leave_signals_to_parent

Batch = tuple[torch.Tensor, ...]


class PositionDataset(Protocol):
    """A dataset without end: the item at a position is a pure function of (seed, position)."""

    def __getitem__(self, position: int) -> Any:
        """Return a tensor or a tuple of tensors."""
        ...


class _Carrying(Dataset[Any]):
    """Hands a UnipError over as a value: raised in a worker, its text would be that worker's traceback."""

    def __init__(self, dataset: PositionDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, position: int) -> Any:
        try:
            item = self.dataset[position]
        except UnipError as error:
            return (error.what, error.fix)
        return item if isinstance(item, tuple) else (item,)


def _collate(items: list[Any]) -> Any:
    for item in items:
        if isinstance(item[0], str):
            return item
    return tuple(default_collate(items))


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

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch // (self.ranks * self.passes)
        for step in range(self.start, self.steps):
            for number in range(self.passes):
                first = step * self.batch + (number * self.ranks + self.rank) * share
                yield list(range(first, first + share))

    def __len__(self) -> int:
        return (self.steps - self.start) * self.passes


def resolve_workers(workers: int | str) -> int:
    """Return how many loader processes ``auto`` means here: a core each, none where there are only two cores."""
    if isinstance(workers, int):
        return workers
    cores = usable_cores()
    return 0 if cores <= 2 else min(16, cores)


def batches(
    dataset: PositionDataset,
    config: TrainingConfig,
    *,
    start: int,
    rank: int,
    ranks: int,
    device: torch.device,
) -> Iterator[Batch]:
    """Yield each pass's batch, on ``device``, from step ``start`` on.

    Raises:
        UnipError: A sample cannot be made (say, a truncated file), or the batch size cannot be shared.
    """
    workers = resolve_workers(config.workers)
    loader: DataLoader[Any] = DataLoader(
        _Carrying(dataset),
        batch_sampler=Positions(config, start=start, rank=rank, ranks=ranks),
        num_workers=workers,
        generator=torch.Generator(),  # else making the iterator draws from the generator that dropout uses
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        worker_init_fn=leave_signals_to_parent,
        prefetch_factor=4 if workers else None,
        # forked workers share the cache of decoded images
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    for batch in loader:
        if isinstance(batch[0], str):
            raise UnipError(*batch)
        yield tuple(tensor.to(device, non_blocking=True) for tensor in batch)
