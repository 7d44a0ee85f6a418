"""NYUDepthv2 and SUN-RGBD: indoor scenes, depth or RGB, with the 40 and 37 classes that are usual."""

from __future__ import annotations

import dataclasses

from unip.data.labelled.classes import Classes
from unip.data.labelled.readers.layout import Layout, Split, shifted

# The 37 classes of SUN-RGBD in the order of their ids, from 1, and NYUDepthv2's 40 (Gupta, Arbelaez, Malik, CVPR 2013),
# which are these and three more: as hcmr-lab/segmentation_framework, jianxinhuang3/DepthMatch and casiatao/UNIP agree
# on. Id 0 has no label in both; casiatao/UNIP trains on it as one more class, which the usual benchmark does not.
SUN_NAMES = (
    "wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture, counter, blinds, desk, shelves, "
    "curtain, dresser, pillow, mirror, floor mat, clothes, ceiling, books, refrigerator, television, paper, towel, "
    "shower curtain, box, whiteboard, person, night stand, toilet, sink, lamp, bathtub, bag"
)
SUN = Classes(tuple(SUN_NAMES.split(", ")))
NYU = Classes((*SUN.names, "other structure", "other furniture", "other prop"))

# Neither set's authors release masks as files: both come in one .mat. The folders are those of the copies that RGB-D
# papers share (Depth, RGB, Label or labels, train.txt, test.txt), of casiatao/UNIP (train_depth.txt,
# "Lable_single_channel", spelt so), and for SUN-RGBD of chrischoy/SUN_RGBD (image, depth, label37, train37.txt).
NYU_DEPTH = Layout(
    title="NYUDepthv2 depth",
    classes=NYU,
    splits={
        name: Split(("Depth",), ("Label", "Lable_single_channel", "labels"), (f"{name}_depth.txt", f"{name}.txt"))
        for name in ("train", "test")
    },
    ids=shifted(NYU.names),
)
NYU_RGB = dataclasses.replace(
    NYU_DEPTH,
    title="NYUDepthv2 RGB",
    splits={
        name: Split(("RGB",), ("Label", "Lable_single_channel", "labels"), (f"{name}_rgb.txt", f"{name}.txt"))
        for name in ("train", "test")
    },
)
SUN_DEPTH = Layout(
    title="SUN-RGBD depth",
    classes=SUN,
    splits={
        name: Split(
            ("Depth", f"depth/{name}"),
            ("labels", "Label", f"label37/{name}"),
            (f"{name}_depth.txt", f"{name}.txt", f"{name}37.txt"),
        )
        for name in ("train", "test")
    },
    ids=shifted(SUN.names),
)
SUN_RGB = dataclasses.replace(
    SUN_DEPTH,
    title="SUN-RGBD RGB",
    splits={
        name: Split(
            ("RGB", f"image/{name}"),
            ("labels", "Label", f"label37/{name}"),
            (f"{name}_rgb.txt", f"{name}.txt", f"{name}37.txt"),
        )
        for name in ("train", "test")
    },
)
