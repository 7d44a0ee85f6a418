"""Changing what labels mean: classes merged, renamed, ignored, and stray ids given a meaning."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable

from unip.data.labelled.classes import IGNORE, Classes, default_palette
from unip.data.labelled.masks import make_ids
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError

IGNORED = "ignore"  # what a class becomes that is not to be learnt


def remapped(data: SegmentationData, changes: Iterable[str]) -> SegmentationData:
    """Change labels; all changes happen at once, so their order does not matter.

    Each change is ``OLD=NEW``. OLD is the name of a class, or a number: an id as the mask files hold it (for outlines
    and colours: the class id). NEW is the name of a class, old or new, the id of an old one, or ``ignore``. Classes
    that nothing is left of are dropped; the others keep their order, new names come after them, and ids are renumbered.

    Raises:
        UnipError: A change cannot be read, or names a class that is not there, or names one twice.
    """
    parsed = [_parse(change) for change in changes]
    if not parsed:
        return data
    names, colours = data.classes.names, data.classes.palette
    rules = {old: _named(new, names) for old, new in parsed}
    if len(rules) != len(parsed):
        raise UnipError("remap: one label is changed twice", "Give each OLD one NEW.")
    stored = dict(data.ids)
    for old in rules:
        if old not in names and not old.isdecimal():
            near = difflib.get_close_matches(old, names, n=1)
            raise UnipError(
                f"remap: there is no class {old!r}",
                (f"Did you mean {near[0]!r}? " if near else "") + f"Classes: {', '.join(names)}.",
            )
    meaning = {
        raw: IGNORED if class_id == IGNORE else rules.get(names[class_id], names[class_id])
        for raw, class_id in data.ids
    }
    for old, new in rules.items():
        if old not in names:
            if int(old) > 65535:
                raise UnipError(f"remap: id {old} is beyond 65535, which no mask can hold")
            stored.setdefault(int(old), IGNORE)
            meaning[int(old)] = new
    used = set(meaning.values())
    kept = [name for name in names if name in used]
    kept += sorted(used - set(kept) - {IGNORED}, key=list(meaning.values()).index)
    if not kept:
        raise UnipError("remap: no class is left", "Keep at least one.")
    spare = iter([colour for colour in default_palette(len(names) + len(kept)) if colour not in colours])
    palette = tuple(colours[names.index(name)] if name in names else next(spare) for name in kept)
    table = {raw: IGNORE if name == IGNORED else kept.index(name) for raw, name in meaning.items()}
    assumed = None if str(data.assumed_ignore) in rules else data.assumed_ignore
    return dataclasses.replace(
        data, classes=Classes(tuple(kept), palette=palette), ids=make_ids(table), assumed_ignore=assumed
    )


def _named(new: str, names: tuple[str, ...]) -> str:
    """Return the name of a class that is given by its id; other texts are names."""
    if new in names or not new.isdecimal():
        return new
    if int(new) < len(names):
        return names[int(new)]
    known = ", ".join(f"{i} {name}" for i, name in enumerate(names))
    raise UnipError(f"remap: there is no class of id {new}", f"Classes: {known}. Give a name to add a class.")


def _parse(change: str) -> tuple[str, str]:
    old, equals, new = (part.strip() for part in change.partition("="))
    if not equals or not old or not new:
        raise UnipError(f"remap: {change!r} is not OLD=NEW", "Write truck=vehicle, 12=road or sky=ignore.")
    return old, new
