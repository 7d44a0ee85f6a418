"""How well palettes are recognised and turned back into grey, by palette and JPEG quality.

    python benchmarks/palettes.py --grey DATA/hit-uav/val/images DATA/tir-ss/val/images --photos DATA/photos
    python benchmarks/palettes.py --grey DATA/thermal --palette-frames DATA/rainbow-jpegs

Grey infrared frames are coloured with each palette, stored, read and turned back. Errors are mean absolute differences
of the grey levels. Recognition counts frames in which at least 2 % of the pixels are coloured: grey-red has grey below
level 164. "overlay" is JPEG of quality 85 with a colour bar, white text and a black box burnt in; its errors
leave these pixels out.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from unip.data.images.files import SUFFIXES
from unip.data.images.palettes import COLOURED, Palette, known_palettes, palette_to_grey, recognise

Pixels = npt.NDArray[np.uint8]

FORMATS = {"PNG": None, "JPEG 85": 85, "JPEG 75": 75, "overlay": 85}


def files_of(folders: list[Path], most: int | None) -> list[Path]:
    """List the images of folders, so many of each at most, drawn at random."""
    found: list[Path] = []
    for folder in folders:
        images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        found += images if most is None else random.Random(0).sample(images, min(most, len(images)))
    return found


def store(image: Pixels, quality: int | None) -> Pixels:
    """Return an image as it is read from a file: PNG, or JPEG of a quality."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG" if quality is None else "JPEG", quality=quality or 0)
    return np.asarray(Image.open(file).convert("RGB"))


def draw_overlay(image: Pixels, palette: Palette) -> npt.NDArray[np.bool_]:
    """Draw a colour bar, a text and a box into an image; return which pixels of it are left."""
    height, width = image.shape[:2]
    before = image.copy()
    bar = np.rint(palette.colours[np.linspace(255, 0, height // 2).astype(int)]).astype(np.uint8)
    image[height // 4 : height // 4 + len(bar), -width // 20 :] = bar[:, None]
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((4, 4, width // 3, height // 10), fill=(0, 0, 0))
    pen.text((8, 8), "max 37.2 C  e=0.95  2 m", fill=(255, 255, 255))
    pen.line((width // 2 - 9, height // 2, width // 2 + 9, height // 2), fill=(0, 255, 0))
    image[...] = np.asarray(picture)
    changed = np.abs(image.astype(int) - before).max(axis=2) > 0
    near = Image.fromarray((changed * 255).astype(np.uint8)).reduce(16).resize((width, height), Image.Resampling.BOX)
    return np.asarray(near) == 0


def table_of_errors(paths: list[Path]) -> None:
    """Print the errors and the share that is recognised for each palette."""
    greys = [np.asarray(Image.open(path).convert("L")) for path in paths]
    print(f"{len(greys)} frames; mean error in grey levels (worst frame), share recognised")
    print(f"{'palette':22}" + "".join(f"{name:>24}" for name in FORMATS))
    for palette in known_palettes():
        video = palette.colours.min() > 15
        row = f"{palette.name + ' (video)' * bool(video):22}"
        colours = np.rint(palette.colours).astype(np.uint8)
        for name, quality in FORMATS.items():
            errors, right = [], []
            for grey in greys:
                image, kept = colours[grey], np.full(grey.shape, True)
                if name == "overlay":
                    kept = draw_overlay(image, palette)
                stored = store(image, quality)
                found = recognise(stored)
                if (np.ptp(stored, axis=2) >= COLOURED).mean() >= 0.02:
                    right.append(found is not None and found.name == palette.name)
                levels = palette_to_grey(stored, palette.name, "frame")  # type: ignore[arg-type]
                errors.append(float(np.abs(levels.astype(int) - grey)[kept].mean()))
            row += f"{np.mean(errors):7.2f} ({max(errors):5.2f}) {100 * np.mean(right):6.1f} %"
        print(row, flush=True)


def count_recognised(paths: list[Path], what: str) -> None:
    """Print how many images are taken for frames in a palette."""
    found = [recognise(np.asarray(Image.open(path).convert("RGB"))) for path in paths]
    names = Counter(palette.name for palette in found if palette)
    total = sum(names.values())
    print(f"{what}: {total} of {len(paths)} ({100 * total / max(1, len(paths)):.2f} %) {dict(names)}", flush=True)


def time_it() -> None:
    """Print how long recognition and inversion of a 640x512 frame take."""
    palette = known_palettes()[0]
    grey = np.clip(np.random.default_rng(0).normal(128, 40, (512, 640)), 0, 255).astype(np.uint8)
    image = np.rint(palette.colours).astype(np.uint8)[grey]
    for name, call in {
        "recognition": lambda: recognise(image),
        "inversion of a named palette": lambda: palette_to_grey(image, "hot", "frame"),
    }.items():
        call()
        times = []
        for _ in range(20):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        print(f"{name}: {1000 * min(times):.1f} ms (median {1000 * float(np.median(times)):.1f}) for 640x512")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grey", type=Path, nargs="*", default=[], help="folders of grey infrared frames")
    parser.add_argument("--frames", type=int, default=15, help="frames drawn from each of these folders")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="folders of images in natural colours")
    parser.add_argument("--palette-frames", type=Path, nargs="*", default=[], help="folders of frames in a palette")
    args = parser.parse_args()
    time_it()
    for folder in args.palette_frames:
        count_recognised(files_of([folder], None), f"recognised in {folder.name}")
    if args.photos:
        count_recognised(files_of(args.photos, None), "photos mistaken for frames in a palette")
    if args.grey:
        table_of_errors(files_of(args.grey, args.frames))


if __name__ == "__main__":
    main()
