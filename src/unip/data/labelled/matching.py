"""Matching the classes of labelled data to those of a model by their names, so that the order need not be the same."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.masks import make_ids
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.remap import IGNORED
from unip.data.labelled.saying import say_once
from unip.errors import UnipError


def match_classes(
    data: SegmentationData, classes: Classes, *, remap: Iterable[str] = (), model: str = "the model", source: str
) -> SegmentationData:
    """Give the data the classes of a model: the same names, with the model's ids; and say so if ids change.

    Names are equal if they differ in case, spaces and underscores alone. The data may lack a class only where the
    user gave it up by a change of labels, ``NAME=ignore``.

    Args:
        data: The pairs, after the changes of labels.
        classes: The model's.
        remap: The changes of labels.
        model: For messages.
        source: What the data is called in messages.

    Returns:
        The same pairs, whose masks hold the ids of ``classes``.

    Raises:
        UnipError: A class has no counterpart, or two names of one side are equal.
    """
    if data.classes.names == classes.names:
        return data
    wanted, there = names_by_key(classes.names, model), names_by_key(data.classes.names, source)
    given_up = {class_key(old) for old, _, new in (change.partition("=") for change in remap) if new.strip() == IGNORED}
    lost = [name for key, name in wanted.items() if key not in there and key in given_up]
    only_model = [name for key, name in wanted.items() if key not in there and key not in given_up]
    only_data = [name for key, name in there.items() if key not in wanted]
    if only_model or only_data:
        raise _differing(only_model, only_data, classes.names, data.classes.names, model, source)
    table = [classes.names.index(wanted[class_key(name)]) for name in data.classes.names]
    changed = [f"{name} {i} -> {table[i]}" for i, name in enumerate(data.classes.names) if table[i] != i]
    spelt = [f"{there[key]} = {wanted[key]}" for key in there if there[key] != wanted[key]]
    if changed or spelt:
        say_once(f"classes of {source} and {model} are matched by name: {', '.join([*changed, *spelt])}")
    if lost:
        say_once(
            f"note: {source} has no pixel of {', '.join(lost)}, which is ignored; where {model} predicts it on other "
            "classes, that is an error, and its own IoU is 0"
        )
    ids = {raw: class_id if class_id == IGNORE else table[class_id] for raw, class_id in data.ids}
    return dataclasses.replace(data, classes=classes, ids=make_ids(ids))


def class_key(name: str) -> str:
    """Return what names of one class have in common, however they are spelt."""
    return re.sub(r"[\s_]+", "", name).casefold()


def names_by_key(names: Sequence[str], owner: str) -> dict[str, str]:
    """Return class names by :func:`class_key`; ``owner`` is whose they are, for messages.

    Raises:
        UnipError: Two have the same.
    """
    counts = Counter(map(class_key, names))
    twice = [name for name in names if counts[class_key(name)] > 1]
    if twice:
        raise UnipError(
            f"the classes {' and '.join(twice[:2])} of {owner} differ in case, spaces or underscores alone, so they "
            "cannot be matched by name",
            "Rename one, or use the same names in the same order on both sides.",
        )
    return {class_key(name): name for name in names}


def _differing(
    only_model: list[str], only_data: list[str], known: Sequence[str], there: Sequence[str], model: str, source: str
) -> UnipError:
    what, fix = [], []
    if only_data:
        what.append(f"{source} has {', '.join(only_data)}, which {model} does not know")
        fix.append(f"--remap {only_data[0]}=CLASS or {only_data[0]}=ignore, with a CLASS of: {', '.join(known)}.")
    if only_model:
        what.append(f"{model} knows {', '.join(only_model)}, which {source} does not have")
        fix.append(
            f"If the data calls {only_model[0]} something else: --remap NAME={only_model[0]}, with a NAME of: "
            f"{', '.join(there)}. If it shows none of it, add the name at the end of the data's classes.json (or the "
            "categories, labels.txt or data.yaml)."
        )
    return UnipError("; ".join(what), " ".join(fix))
