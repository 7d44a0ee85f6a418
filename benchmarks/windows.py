"""What whole images do to the mIoU in place of sliding windows, and bfloat16 in place of float32.

    python benchmarks/windows.py --data DATA/hit-uav --split val
    python benchmarks/windows.py --data DATA/hit-uav --split test --precisions bf16

Of each frame, the tile with most objects is cut out and enlarged as the model was trained, so that objects have the
size that it knows and an image is hardly larger than the crop. Intervals are those of a paired bootstrap over frames.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from unip.data.images.conversion import grey8
from unip.data.labelled.classes import IGNORE
from unip.data.labelled.datasets import open_segmentation
from unip.data.sampling.frames import fit_short_side, rgb
from unip.segmentation.heads import resize
from unip.segmentation.inference import class_ids
from unip.segmentation.metrics import confusion, score
from unip.segmentation.sliding import sliding_logits
from unip.segmentation.storage import load_segmenter

DRAWS = 1000
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Matrix = npt.NDArray[np.int64]


def fullest_tile(mask: npt.NDArray[np.uint8], height: int, width: int) -> tuple[slice, slice]:
    """Return the place of the tile with most pixels of objects."""
    places = [
        (slice(top, top + height), slice(left, left + width))
        for top in range(0, mask.shape[0] - height + 1, height)
        for left in range(0, mask.shape[1] - width + 1, width)
    ]
    return max(places, key=lambda place: int(((mask[place] > 0) & (mask[place] != IGNORE)).sum()))


def measure(options: argparse.Namespace) -> dict[tuple[str, str], list[Matrix]]:
    """Return the confusion matrix of each tile, by window and precision."""
    segmenter = load_segmenter(Path(options.model)).eval()
    names, crop, stride = segmenter.spec.classes.names, segmenter.spec.crop, segmenter.spec.stride
    data = open_segmentation(options.data, options.split)
    width, height = map(int, options.size.split("x"))
    found: dict[tuple[str, str], list[Matrix]] = defaultdict(list)
    for index in range(0, len(data), options.every):
        mask = data.read_mask(index)
        place = fullest_tile(mask, height, width)
        image = grey8(data.read_samples(index, segmenter.spec.conversion), segmenter.spec.conversion)[place]
        pixels = rgb(fit_short_side(image, round(options.scale * min(height, width))))
        truth = torch.from_numpy(mask[place].copy())
        for precision in options.precisions:
            for window, side in (("slide", crop), ("whole", max(pixels.shape))):
                with torch.inference_mode(), torch.autocast("cpu", DTYPES[precision], enabled=precision != "fp32"):
                    (logits,) = sliding_logits(segmenter, [pixels], crop=side, stride=stride)
                ids = class_ids(resize(logits[None], (height, width))[0])
                found[window, precision].append(confusion(ids, truth, len(names), IGNORE).numpy())
    return found


def interval(new: list[Matrix], old: list[Matrix], names: tuple[str, ...]) -> tuple[float, float]:
    """Return the 95 % interval of the difference in mIoU, in points."""
    rng = np.random.default_rng(0)
    ours, theirs = np.stack(new), np.stack(old)
    draws = [rng.integers(0, len(ours), len(ours)) for _ in range(DRAWS)]
    found = [100 * (score(ours[d].sum(0), names).miou - score(theirs[d].sum(0), names).miou) for d in draws]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Print the mIoU of each way, and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="unip-aerial-tiny")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=2, help="take every n-th frame")
    parser.add_argument("--size", default="320x256", help="width and height of the tiles, in pixels")
    parser.add_argument("--scale", type=float, default=2, help="by what they are enlarged, as frames of training were")
    parser.add_argument("--precisions", nargs="+", choices=tuple(DTYPES), default=list(DTYPES))
    options = parser.parse_args()
    names = load_segmenter(Path(options.model)).spec.classes.names
    found = measure(options)
    print(
        f"{options.split}: {len(next(iter(found.values())))} tiles of {options.size}, enlarged {options.scale:g} times"
    )
    for (window, precision), matrices in found.items():
        print(f"{window}, {precision}: mIoU {100 * score(sum(matrices, np.zeros_like(matrices[0])), names).miou:.2f}")
    for precision in options.precisions:
        low, high = interval(found["whole", precision], found["slide", precision], names)
        print(f"whole less slide, {precision}: {low:+.2f} to {high:+.2f}")
    if len(options.precisions) == len(DTYPES):
        low, high = interval(found["whole", "bf16"], found["whole", "fp32"], names)
        print(f"bf16 less fp32, whole: {low:+.2f} to {high:+.2f}")


if __name__ == "__main__":
    main()
