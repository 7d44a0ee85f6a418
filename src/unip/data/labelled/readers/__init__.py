"""Readers of segmentation data sets, each from the layout that its authors release, by kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers import (
    cityscapes,
    coco,
    colours,
    cvat,
    folder,
    hit_uav,
    label_studio,
    labelme,
    mvseg,
    yolo,
)
from unip.data.labelled.readers.ade20k import ADE20K
from unip.data.labelled.readers.depth import NYU_DEPTH, NYU_RGB, SUN_DEPTH, SUN_RGB
from unip.data.labelled.readers.layout import Layout, layout_splits, open_layout
from unip.data.labelled.readers.thermal import MFNET, MFNET_RGB, PST900, PST900_RGB, SCUT, SODA
from unip.data.labelled.readers.thermal_drives import CART, FMB, INFRA_PARIS, SEMANTIC_RT, TIR_SS
from unip.data.labelled.settings import Places


@dataclass(frozen=True)
class Reader:
    """A layout.

    Attributes:
        title: What it is called for people.
        open: Opens a split of it.
        splits: Which splits a folder of it has.
        open_placed: Opens a split whose images and masks lie where it is told, if the layout allows for that.
        placed_splits: Which splits a folder has then.
    """

    title: str
    open: Callable[[Path, str | None], SegmentationData]
    splits: Callable[[Path], list[str]]
    open_placed: Callable[[Path, str | None, Places], SegmentationData] | None = None
    placed_splits: Callable[[Path, Places], list[str]] = folder.folder_splits


def _released(layout: Layout) -> Reader:
    return Reader(
        layout.title, lambda root, split: open_layout(layout, root, split), lambda root: layout_splits(layout, root)
    )


READERS: dict[str, Reader] = {
    "folder": Reader("segmentation folder", folder.open_folder, folder.folder_splits, folder.open_folder),
    "soda": _released(SODA),
    "mfnet": _released(MFNET),
    "mfnet-rgb": _released(MFNET_RGB),
    "scut": _released(SCUT),
    "pst900": _released(PST900),
    "pst900-rgb": _released(PST900_RGB),
    "tir-ss": _released(TIR_SS),
    "fmb": _released(FMB),
    "semanticrt": _released(SEMANTIC_RT),
    "mvseg": Reader("MVSeg", mvseg.open_mvseg, mvseg.mvseg_splits),
    "infraparis": _released(INFRA_PARIS),
    "cart": _released(CART),
    "nyudepthv2": _released(NYU_DEPTH),
    "nyudepthv2-rgb": _released(NYU_RGB),
    "sunrgbd": _released(SUN_DEPTH),
    "sunrgbd-rgb": _released(SUN_RGB),
    "ade20k": _released(ADE20K),
    "hit-uav": Reader("HIT-UAV", hit_uav.open_hit_uav, hit_uav.hit_uav_splits),
    "colours": Reader("colour-coded masks", colours.open_colours, folder.folder_splits, colours.open_colours),
    "cityscapes": Reader("Cityscapes-like", cityscapes.open_cityscapes, cityscapes.cityscapes_splits),
    "coco": Reader("COCO JSON", coco.open_coco, coco.coco_splits),
    "labelme": Reader("LabelMe", labelme.open_labelme, labelme.labelme_splits),
    "yolo-seg": Reader("YOLO segmentation", yolo.open_yolo, yolo.yolo_splits),
    "cvat": Reader("CVAT", cvat.open_cvat, cvat.cvat_splits),
    "label-studio": Reader("Label Studio", label_studio.open_label_studio, label_studio.label_studio_splits),
}
