"""The classes that several models share, so that they can be compared on the same labelled pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from unip.data.labelled.classes import IGNORE, Classes, background_id
from unip.data.labelled.masks import make_ids
from unip.data.labelled.matching import match_classes, names_by_key
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError


@dataclass(frozen=True)
class SharedClasses:
    """Labelled data as each of several models is scored on it.

    Attributes:
        names: The classes that all models know, as the last model calls them, in its order.
        data: For each model: the pairs with its classes; pixels of a class that another one lacks have no label.
        ids: For each model: its ids of ``names``.
        left_out: The classes that some model lacks, each with the models that know it.
    """

    names: tuple[str, ...]
    data: tuple[SegmentationData, ...]
    ids: tuple[tuple[int, ...], ...]
    left_out: dict[str, tuple[str, ...]]


def share_classes(
    data: SegmentationData, models: Mapping[str, Classes], *, remap: Iterable[str], source: str
) -> SharedClasses:
    """Match the classes of labelled data and of several models by name, see :func:`.match_classes`.

    Args:
        data: The pairs, after the changes of labels.
        models: The classes of each model, by what it is called in messages.
        remap: The changes of labels.
        source: What the data is called in messages.

    Raises:
        UnipError: Nothing but the background is shared, or the data and the shared classes do not fit each other.
    """
    known = {model: names_by_key(classes.names, model) for model, classes in models.items()}
    every = [key for keys in known.values() for key in keys]
    shared = [key for key in list(known.values())[-1] if all(key in keys for keys in known.values())]
    names = tuple(list(known.values())[-1][key] for key in shared)
    if not names or (len(names) == 1 and background_id(names) is not None):
        each = "; ".join(f"{model}: {', '.join(classes.names)}" for model, classes in models.items())
        raise UnipError(
            f"the models share no class{' but the background' if names else ''}, so they cannot be compared ({each})",
            "Compare models of the same task; classes are matched by name.",
        )
    rest = _without(data, set(every) - set(shared), source)
    ids, found = [], []
    for model, classes in models.items():
        numbers = tuple(classes.names.index(known[model][key]) for key in shared)
        part = Classes(tuple(classes.names[number] for number in numbers))
        matched = match_classes(rest, part, remap=remap, model=model, source=source)
        table = {raw: IGNORE if own == IGNORE else numbers[own] for raw, own in matched.ids}
        found.append(dataclasses.replace(matched, classes=classes, ids=make_ids(table)))
        ids.append(numbers)
    left_out = {
        next(keys[key] for keys in known.values() if key in keys): tuple(m for m, keys in known.items() if key in keys)
        for key in dict.fromkeys(every)
        if key not in shared
    }
    return SharedClasses(names, tuple(found), tuple(ids), left_out)


def _without(data: SegmentationData, dropped: Collection[str], source: str) -> SegmentationData:
    """Take classes, by their keys, out of the data: their pixels have no label."""
    keys = names_by_key(data.classes.names, source)
    kept = [name for key, name in keys.items() if key not in dropped]
    if len(kept) == len(data.classes.names):
        return data
    if not kept:
        raise UnipError(
            f"{source} has none of the classes that the models share", "Give data of their task, or --remap."
        )
    numbers = {data.classes.names.index(name): number for number, name in enumerate(kept)}
    ids = {raw: numbers.get(class_id, IGNORE) for raw, class_id in data.ids}
    return dataclasses.replace(data, classes=Classes(tuple(kept)), ids=make_ids(ids), assumed_ignore=None)
