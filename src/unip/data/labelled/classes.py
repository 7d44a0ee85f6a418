"""The classes of a segmentation task: names, ignored id and colours."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from unip.errors import UnipError

IGNORE = 255  # pixels without a label, in every mask inside the program
MAX_CLASSES = 254


@dataclass(frozen=True)
class Classes:
    """What the ids of a mask mean.

    Attributes:
        names: The name of each id, from 0 on.
        ignore_index: The id, in the files, of pixels without a label.
        palette: A colour (red, green, blue, 0..255) for each id.
    """

    names: tuple[str, ...]
    ignore_index: int = IGNORE
    palette: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise UnipError(f"classes: {len(self.names)} names, but 1 to {MAX_CLASSES} are possible")
        if not all(isinstance(name, str) and name for name in self.names):
            raise UnipError("classes: every name must be a text that is not empty")
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise UnipError(f"classes: the name {twice[0]!r} appears twice", "Give each class its own name.")
        if isinstance(self.ignore_index, bool) or not isinstance(self.ignore_index, int):
            raise UnipError(f"classes: ignore_index must be an integer, but is {self.ignore_index!r}")
        if not len(self.names) <= self.ignore_index <= 65535:
            raise UnipError(
                f"classes: ignore_index {self.ignore_index} must lie above the class ids "
                f"0..{len(self.names) - 1} and within 65535",
                "255 is the usual choice.",
            )
        if not self.palette:
            object.__setattr__(self, "palette", default_palette(len(self.names)))
        if len(self.palette) != len(self.names) or not all(_is_colour(colour) for colour in self.palette):
            raise UnipError(
                f"classes: palette must hold {len(self.names)} colours [red, green, blue] of 0..255",
                "Correct it, or leave it out to get default colours.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return what ``classes.json`` and a model's ``config.json`` hold."""
        palette = [list(colour) for colour in self.palette]
        return {"names": list(self.names), "ignore_index": self.ignore_index, "palette": palette}

    @classmethod
    def from_dict(cls, value: Any) -> Self:
        """Check and take what :meth:`to_dict` returns; ``ignore_index`` and ``palette`` may be missing.

        Raises:
            UnipError: It does not describe classes.
        """
        if not isinstance(value, dict) or not isinstance(value.get("names"), list):
            raise UnipError(
                "classes: no list `names`",
                'Write {"names": ["background", "person"], "ignore_index": 255}.',
            )
        unknown = sorted(set(value) - {"names", "ignore_index", "palette"})
        if unknown:
            raise UnipError(f"classes: unknown key {unknown[0]!r}", "Known: names, ignore_index, palette.")
        palette = value.get("palette") or ()
        if not isinstance(palette, list | tuple) or not all(isinstance(row, list | tuple) for row in palette):
            raise UnipError("classes: palette must be a list of [red, green, blue]")
        return cls(tuple(value["names"]), value.get("ignore_index", IGNORE), tuple(tuple(row) for row in palette))


BACKGROUND_NAMES = ("background", "_background_", "unlabelled", "unlabeled")  # in any case


def has_background(names: Sequence[str]) -> bool:
    """Say whether one of several classes is a background, wherever it stands."""
    return len(names) > 1 and background_id(names) is not None


def foreground_ids(names: Sequence[str]) -> list[int]:
    """Return the ids of all classes but the background; of all classes if there is none, or nothing else."""
    background = background_id(names) if has_background(names) else None
    return [i for i in range(len(names)) if i != background]


def background_id(names: Sequence[str]) -> int | None:
    """Return the id of the class that is named background, wherever it stands; None if there is none."""
    return next((i for i, name in enumerate(names) if name.strip().lower() in BACKGROUND_NAMES), None)


def default_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return ``count`` colours that are easy to tell apart: black for id 0, then hues a golden angle apart."""
    colours = [(0, 0, 0)]
    for i in range(count - 1):
        hue, shade = (0.98 + i * 0.618034) % 1.0, (1.0, 0.75, 0.9)[i // 8 % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, (0.85, 0.6, 1.0)[i // 4 % 3], shade)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colours[:count])


def _is_colour(colour: Any) -> bool:
    return len(colour) == 3 and all(type(value) is int and 0 <= value <= 255 for value in colour)
