"""Settings about labelled data that verbs share, apart from the code that needs numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_args

from pydantic import BeforeValidator, Field

from unip.config import NameOrPath
from unip.errors import UnipError
from unip.paths import exists

#: Kinds of segmentation data; :data:`unip.data.labelled.readers.READERS` has a reader for each; a test compares them.
KindName = Literal[
    "folder",
    "soda",
    "mfnet",
    "mfnet-rgb",
    "scut",
    "pst900",
    "pst900-rgb",
    "tir-ss",
    "fmb",
    "semanticrt",
    "mvseg",
    "infraparis",
    "cart",
    "nyudepthv2",
    "nyudepthv2-rgb",
    "sunrgbd",
    "sunrgbd-rgb",
    "ade20k",
    "hit-uav",
    "colours",
    "cityscapes",
    "coco",
    "labelme",
    "yolo-seg",
    "cvat",
    "label-studio",
]


def check_data(source: Path) -> None:
    """Refuse segmentation data of the plain layout that is not there, before the code that reads it is imported.

    Raises:
        UnipError: There is no such folder.
    """
    if ":" not in str(source) and not exists(source):
        raise UnipError(
            f"no such folder: {source}",
            f"A segmentation folder holds {source / 'images'} and {source / 'masks'}, and classes.json.",
        )


DATA_HELP = (
    "Segmentation folder (images/, masks/, classes.json; with or without splits; other usual places are found), or "
    "KIND:PATH for another layout: " + ", ".join(kind for kind in get_args(KindName) if kind != "folder") + "."
)


MaskOrientation = Literal["shown", "stored"]


class HasPlaces(Protocol):
    """Settings that say where a plain folder has its images and masks, and how masks lie."""

    @property
    def images(self) -> str | None:
        """See :data:`ImagesFolder`."""

    @property
    def masks(self) -> str | None:
        """See :data:`MasksFolder`."""

    @property
    def mask_suffix(self) -> str | None:
        """See :data:`MaskSuffix`."""

    @property
    def mask_orientation(self) -> MaskOrientation | None:
        """See :data:`MaskOrientationGiven`."""


@dataclass(frozen=True)
class Places:
    """Where a plain folder has its images and masks, and how masks lie, as far as given; what is None is found.

    Attributes:
        images: Folder of the images, below the data.
        masks: Folder of the masks.
        mask_suffix: What follows an image's name in its mask's.
        mask_orientation: What masks of images with an EXIF orientation fit, see :mod:`unip.data.labelled.turning`.
    """

    images: str | None = None
    masks: str | None = None
    mask_suffix: str | None = None
    mask_orientation: MaskOrientation | None = None

    @property
    def are_given(self) -> bool:
        """Whether a place is given, which only some layouts allow for."""
        return (self.images, self.masks, self.mask_suffix) != (None, None, None)

    @classmethod
    def of(cls, config: HasPlaces) -> Places:
        """Take the settings of a verb."""
        return cls(config.images, config.masks, config.mask_suffix, config.mask_orientation)


FOUND = Places()  # nothing is given

ImagesFolder = Annotated[
    NameOrPath | None,
    Field(description="Folder of the images in a plain folder, if it is not found; {split}: the split's name."),
]
MasksFolder = Annotated[
    NameOrPath | None,
    Field(description="Folder of the masks in a plain folder, if it is not found; {split}: the split's name."),
]
MaskOrientationGiven = Annotated[
    MaskOrientation | None,
    Field(
        description="What mask files of images with an EXIF orientation fit: the picture as viewers turn it (shown), "
        "or the pixels as stored. None: it is found where size or tags tell."
    ),
]
MaskSuffix = Annotated[
    str | None,
    Field(description="What follows an image's name in its mask's, such as _mask; \"\": nothing. None: it is found."),
]


def check_label_budget(labels: float) -> None:
    """Refuse a number of images that is not whole.

    Raises:
        UnipError: ``labels`` is above 1 and not whole.
    """
    if labels > 1 and labels % 1:
        raise UnipError(
            f"label_budget {labels:g} is above 1, so it is a number of images and must be whole",
            "Give a whole number of images, or a share of them up to 1.",
        )


def _as_pairs(value: Any) -> Any:
    """Let a recipe write ``remap: {truck: vehicle}``."""
    return tuple(f"{old}={new}" for old, new in value.items()) if isinstance(value, dict) else value


Remap = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_pairs, json_schema_input_type=tuple[str, ...] | Mapping[str, str] | Mapping[int, str]),
    Field(description="Changes of labels, OLD=NEW: a class or an id in the files becomes another class, or ignore."),
]
