"""The labelled images that linear probes of frozen features are trained and tested on."""

from __future__ import annotations

from unip.data.labelled.classes import IGNORE
from unip.data.labelled.datasets import list_splits, open_segmentation
from unip.data.labelled.drawing import choose
from unip.data.labelled.kept import KeptPairs
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError
from unip.features.config import ProbeSettings

#: Training images, test images, and the split that these are of.
ProbeData = tuple[SegmentationData, SegmentationData, str]


def open_splits(settings: ProbeSettings) -> ProbeData:
    """Open both splits and draw their images, such that each class occurs if it can; also name the test split.

    Every model that is probed needs them: they are kept in memory where they fit.

    Raises:
        UnipError: A split is missing, both are the same or have other classes, or nothing is labelled.
    """
    root = settings.data
    there = list_splits(root)
    name = settings.test or next((name for name in ("test", "val", "valid") if name in there), None)
    train = KeptPairs(**vars(open_segmentation(root, settings.train, remap=settings.remap)))
    if name is None:
        raise UnipError(
            f"{root} has no split to test on: neither test nor val", "Add one, or name another with the test split."
        )
    if name == settings.train:
        raise UnipError(
            f"the probes would be tested on the split they are trained on, {name!r}",
            "Name two splits: images that were trained on say nothing.",
        )
    test = KeptPairs(**vars(open_segmentation(root, name, remap=settings.remap)))
    if train.classes.names != test.classes.names:
        raise UnipError(
            f"{root}: the classes of {settings.train} are not those of {name}",
            "Keep one classes.json beside the splits.",
        )
    train = train.take(choose(train, min(settings.train_images, len(train)), settings.seed))
    test = test.take(choose(test, min(settings.test_images, len(test)), settings.seed))
    for split, data in ((settings.train, train), (name, test)):
        if not any((data.read_mask(index) != IGNORE).any() for index in range(len(data))):
            raise UnipError(
                f"none of the {len(data)} masks of {root} in {split} that were drawn has a labelled pixel",
                "Label some, draw more images, or name another split.",
            )
    return train, test, name
