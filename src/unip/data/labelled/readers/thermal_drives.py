"""More released thermal data sets with a mask for each image: TIR-SS, FMB, SemanticRT, InfraParis, CART."""

from __future__ import annotations

from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.readers.cityscapes import LABELS
from unip.data.labelled.readers.layout import Layout, Split

# Folders, names and ids: ReadMe.md and id2label.json in the copy of asgharm1999/thermographic_inspection (data/TIR),
# whose images are BMP and whose masks are PNG of 16 bits. No palette is stated there, so it is ours.
TIR_SS = Layout(
    title="TIR-SS",
    classes=Classes(
        ("road", "sidewalk", "pedestrian", "rider", "vehicle", "building", "vegetation", "sky", "background")
    ),
    splits={name: Split((f"Img8bit/{name}",), (f"gtFine/{name}",)) for name in ("train", "val", "test")},
)

# Folders: the README files of projects that train on it (train and test with color, Infrared, Label, Visible). Names,
# ids and colours: their dataset files, which agree; the authors' repository JinyuanLiu-CV/SegMiF states 14 classes in
# the paper alone. Id 0 counts as a class here, as in those.
FMB_COLOURS = {
    "background": (0, 0, 0),
    "road": (228, 228, 179),
    "sidewalk": (133, 57, 181),
    "building": (177, 162, 67),
    "lamp": (50, 178, 200),
    "sign": (199, 45, 132),
    "vegetation": (84, 172, 66),
    "sky": (79, 73, 179),
    "person": (166, 99, 76),
    "car": (253, 121, 66),
    "truck": (91, 165, 137),
    "bus": (152, 97, 155),
    "motorcycle": (140, 153, 105),
    "bicycle": (158, 215, 222),
    "pole": (90, 113, 135),
}
FMB = Layout(
    title="FMB",
    classes=Classes(tuple(FMB_COLOURS), palette=tuple(FMB_COLOURS.values())),
    splits={name: Split((f"{name}/Infrared",), (f"{name}/Label",)) for name in ("train", "test")},
)

# Folders, lists, names, ids and colours: the authors' code, jiwei0921/SemanticRT, semanticRT.py.
SEMANTIC_RT_COLOURS = {
    "background": (0, 0, 0),
    "car stop": (72, 61, 39),
    "bike": (0, 0, 255),
    "bicyclist": (148, 0, 211),
    "motorcycle": (128, 128, 0),
    "motorcyclist": (64, 64, 128),
    "car": (0, 139, 139),
    "tricycle": (131, 139, 139),
    "traffic light": (192, 64, 0),
    "box": (126, 192, 238),
    "pole": (244, 164, 96),
    "curve": (211, 211, 211),
    "person": (205, 155, 155),
}
SEMANTIC_RT = Layout(
    title="SemanticRT",
    classes=Classes(tuple(SEMANTIC_RT_COLOURS), palette=tuple(SEMANTIC_RT_COLOURS.values())),
    splits={name: Split(("thermal",), ("labels",), (f"{name}.txt",)) for name in ("train", "val", "test")},
)

# Folders, names and ids: the dataset file infraPARIS_IR of public DeepLab and Segformer code for InfraParis and MUAD.
# The ids are those of Cityscapes' training, in the order of its classes, and 19 is "unlabeled". The colours are
# Cityscapes'; others are stated there.
INFRA_PARIS = Layout(
    title="InfraParis",
    classes=Classes(tuple(LABELS), palette=tuple(colour for _, colour in LABELS.values())),
    splits={
        name: Split((f"Infra/{name}",), (f"semantic_segmentation_reprojected/{name}",))
        for name in ("train", "val", "test")
    },
    ids={**{i: i for i in range(len(LABELS))}, len(LABELS): IGNORE, IGNORE: IGNORE},
    endings=("_labelIds.png",),
)

# Names, ids and colours: README and class_color_mapping.csv of aerorobotics/caltech-aerial-rgbt-dataset, whose authors
# leave out ids 0 (unknown) and 1 (background). The lists, with lines IMAGE,MASK, are in its folder splits:
# thermal_splits are those of labeled_thermal_singles, rgbt_splits those of labeled_rgbt_pairs.
CART_COLOURS = {
    "bare ground": (242, 216, 196),
    "rocky terrain": (89, 70, 54),
    "human-made structures": (166, 166, 166),
    "road": (82, 89, 90),
    "shrubs": (155, 230, 0),
    "trees": (0, 138, 53),
    "sky": (0, 216, 245),
    "water": (13, 127, 252),
    "vehicles": (255, 249, 0),
    "person": (254, 0, 170),
}
CART = Layout(
    title="CART",
    classes=Classes(tuple(CART_COLOURS), palette=tuple(CART_COLOURS.values())),
    splits={name: Split((".",), (".",), (f"{name}.txt", f"thermal16_{name}.txt")) for name in ("train", "val", "test")},
    ids={0: IGNORE, 1: IGNORE, **{i + 2: i for i in range(len(CART_COLOURS))}, IGNORE: IGNORE},
)
