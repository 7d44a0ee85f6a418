"""Released thermal data sets with a mask for each image: SODA, MFNet, SCUT-Seg, PST900."""

from __future__ import annotations

import dataclasses

from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.readers.layout import Layout, Split

# Class names in the order of their ids, folders and lists: the dataset files of casiatao/UNIP (SODA there under the
# VOC class). No palette is stated there, so it is ours. The VOC places of the lists are for copies laid out that way.
SODA = Layout(
    title="SODA",
    classes=Classes(
        (
            "background",
            "person",
            "building",
            "tree",
            "road",
            "pole",
            "grass",
            "door",
            "table",
            "chair",
            "car",
            "bicycle",
            "lamp",
            "monitor",
            "traffic cone",
            "trash can",
            "animal",
            "fence",
            "sky",
            "river",
            "sidewalk",
        )
    ),
    splits={
        name: Split(
            ("JPEGImages",),
            ("SegmentationClassPNG",),
            (f"{name}_infrared.txt", f"ImageSets/Segmentation/{name}_infrared.txt"),
        )
        for name in ("train", "test")
    },
)

# Ids, names, colours and the fourth channel: haqishen/MFNet-pytorch, the authors' code; id 0 is "unlabeled" there and
# counts as a class in the results that are published.
MFNET = Layout(
    title="MFNet",
    classes=Classes(
        ("background", "car", "person", "bike", "curve", "car stop", "guardrail", "color cone", "bump"),
        palette=(
            (0, 0, 0),
            (64, 0, 128),
            (64, 64, 0),
            (0, 128, 192),
            (0, 0, 192),
            (128, 128, 0),
            (64, 64, 128),
            (192, 128, 128),
            (192, 64, 0),
        ),
    ),
    splits={name: Split(("images",), ("labels",), (f"{name}.txt",)) for name in ("train", "val", "test")},
    channel=3,
)
MFNET_RGB = dataclasses.replace(MFNET, title="MFNet RGB", channel=None)  # reading an image drops the fourth channel

# Names, ids and colours: the README of the authors' repository of SCUT-Seg and MCNet, whose colours are blue first
# (its person is [60, 20, 220], in Cityscapes, where ids and colours are from, it is (220, 20, 60)). Two layouts are
# known: images, labels, train.txt, val.txt (casiatao/UNIP), and images, gt_instance with *_labelIds.png,
# scut_train.txt, scut_val.txt (the preparation script of FTNet).
SCUT_IDS = {
    "background": (0, (0, 0, 0)),
    "road": (7, (128, 64, 128)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "fence": (13, (190, 153, 153)),
    "tree": (21, (107, 142, 35)),
    "bus": (28, (0, 60, 100)),
    "pole": (17, (153, 153, 153)),
}
SCUT = Layout(
    title="SCUT-Seg",
    classes=Classes(tuple(SCUT_IDS), palette=tuple(colour for _, colour in SCUT_IDS.values())),
    splits={
        name: Split(("images",), ("labels", "gt_instance"), (f"{name}.txt", f"scut_{name}.txt"))
        for name in ("train", "val")
    },
    ids={**{stored: i for i, (stored, _) in enumerate(SCUT_IDS.values())}, IGNORE: IGNORE},
    endings=(".png", "_labelIds.png"),
)

# Folders: the README of ShreyasSkandanS/pst900_thermal_rgb. Order of the classes: the columns of the paper's table of
# class imbalance (arXiv 1909.10980), as others who checked it against instance counts say.
PST900 = Layout(
    title="PST900",
    classes=Classes(("background", "fire extinguisher", "backpack", "hand drill", "survivor")),
    splits={name: Split((f"{name}/thermal",), (f"{name}/labels",)) for name in ("train", "test")},
)
PST900_RGB = dataclasses.replace(
    PST900,
    title="PST900 RGB",
    splits={name: Split((f"{name}/rgb",), (f"{name}/labels",)) for name in ("train", "test")},
)
