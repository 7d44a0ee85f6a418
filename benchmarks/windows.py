"""What whole images do to the mIoU in place of sliding windows, and bfloat16 in place of float32.

    python benchmarks/windows.py --data DATA/hit-uav --split val --draw frames
    python benchmarks/windows.py --data DATA/hit-uav --split test --precisions bf16 --draw frames
    python benchmarks/windows.py --data DATA/tir-ss --split test --frames --every 1 --device cuda --models runs/*

Of each frame, the tile with most objects is cut out and enlarged as the model was trained, so that objects have the
size that it knows and an image is hardly larger than the crop. With --frames, whole frames at the model's own short
side are taken instead.

The mIoU of whole images less that of windows is told for each model, and for all of them together: the mean over
models, which see the same images. Intervals are those of a paired bootstrap over groups of frames, such as videos,
where there are five or more, else over frames. Groups are told by file names, as in `unip evaluate`, by --group, or by
a table of files and groups, such as flights.csv of HIT-UAV. With --draw frames, frames are drawn even so: intervals
are then narrower than for videos that the model has not seen.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from unip.data.grouping import guess_sequences, match_groups
from unip.data.images.conversion import grey8
from unip.data.labelled.classes import IGNORE
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.pairs import SegmentationData
from unip.data.sampling.frames import fit_short_side, rgb
from unip.segmentation.heads import resize
from unip.segmentation.inference import class_ids
from unip.segmentation.intervals import MIN_GROUPS, Interval, paired_differences, sum_groups
from unip.segmentation.metrics import confusion, score
from unip.segmentation.settings import WHOLE_UP_TO, sees_whole
from unip.segmentation.sliding import sliding_logits
from unip.segmentation.storage import load_segmenter

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


def measure(model: str, data: SegmentationData, options: argparse.Namespace) -> dict[tuple[str, str], list[Matrix]]:
    """Return the confusion matrix of each image, by window and precision."""
    segmenter = load_segmenter(Path(model)).eval().to(options.device)
    spec = segmenter.spec
    if spec.classes.names != data.classes.names:
        raise SystemExit(f"{model} has the classes {spec.classes.names}, the data {data.classes.names}")
    width, height = map(int, options.size.split("x"))
    found: dict[tuple[str, str], list[Matrix]] = defaultdict(list)
    for index in range(0, len(data), options.every):
        mask = data.read_mask(index)
        image = grey8(data.read_samples(index, spec.conversion), spec.conversion)
        short_side = spec.short_side
        if not options.frames:
            place = fullest_tile(mask, height, width)
            image, mask, short_side = image[place], mask[place], round(options.scale * min(height, width))
        pixels = rgb(fit_short_side(image, short_side)).to(options.device)
        if not sees_whole(pixels.shape[1:], spec.crop, "auto"):
            raise SystemExit(f"{data.images[index]} is seen in windows: longer than {WHOLE_UP_TO} crops of {spec.crop}")
        truth = torch.from_numpy(mask.copy())
        for precision in options.precisions:
            dtype, kind = DTYPES[precision], torch.device(options.device).type
            for window, side in (("slide", spec.crop), ("whole", max(pixels.shape))):
                with torch.inference_mode(), torch.autocast(kind, dtype, enabled=precision != "fp32"):
                    (logits,) = sliding_logits(segmenter, [pixels], crop=side, stride=spec.stride)
                ids = class_ids(resize(logits[None], tuple(truth.shape))[0]).cpu()
                found[window, precision].append(confusion(ids, truth, len(spec.classes.names), IGNORE).numpy())
    return found


def groups_of(paths: list[Path], options: argparse.Namespace) -> list[str] | None:
    """Return the group of each image; None: not known, or frames are to be drawn."""
    if options.draw == "frames":
        return None
    if options.group is not None:
        return match_groups(paths, options.group)
    if options.groups is None:
        return guess_sequences(paths)
    with options.groups.open(newline="") as lines:
        table = {row[0]: row[-1] for row in csv.reader(lines)}
    return [table[path.stem] for path in paths]


def drawn(groups: list[str] | None) -> str:
    """Say what is drawn."""
    if groups is None:
        return "over frames"
    count = len(set(groups))
    return f"over {count} groups" if count >= MIN_GROUPS else f"over frames, as there are only {count} groups"


def difference(new: list[list[Matrix]], old: list[list[Matrix]], groups: list[str] | None) -> Interval:
    """Return the difference in mIoU between runs, ours less theirs, in points, with its 95 % interval."""
    known = groups if groups is not None and len(set(groups)) >= MIN_GROUPS else [str(n) for n in range(len(new[0]))]
    ours, theirs = ([sum_groups(np.stack(run), known) for run in runs] for runs in (new, old))
    (found,) = paired_differences(ours, theirs, [range(ours[0].shape[-1])])
    return Interval(100 * found.mean, 100 * found.low, 100 * found.high)


def main() -> None:
    """Print the mIoU of each way, and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["unip-aerial-tiny"], help="run or model folders, or names")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=2, help="take every n-th frame")
    parser.add_argument("--frames", action="store_true", help="take frames as they are, no tiles")
    parser.add_argument("--size", default="320x256", help="width and height of the tiles, in pixels")
    parser.add_argument("--scale", type=float, default=2, help="by what they are enlarged, as frames of training were")
    parser.add_argument("--precisions", nargs="+", choices=tuple(DTYPES), default=list(DTYPES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--group", help="pattern (regex) of the group in an image's path")
    parser.add_argument("--groups", type=Path, help="CSV table: name of a file in the first column, group in the last")
    parser.add_argument("--draw", choices=("groups", "frames"), default="groups", help="what the bootstrap draws")
    options = parser.parse_args()
    if options.draw == "frames" and (options.group is not None or options.groups is not None):
        parser.error("--draw frames takes no groups: leave out --group and --groups")
    data = open_segmentation(options.data, options.split)
    paths = [data.images[index] for index in range(0, len(data), options.every)]
    groups = groups_of(paths, options)
    kind = "frames" if options.frames else f"tiles of {options.size}, enlarged {options.scale:g} times"
    print(f"{options.split}: {len(paths)} {kind}; intervals: {drawn(groups)}")
    found = [measure(model, data, options) for model in options.models]
    pairs = {f"whole less slide, {each}": (("whole", each), ("slide", each)) for each in options.precisions}
    if len(options.precisions) == len(DTYPES):
        pairs["bf16 less fp32, whole"] = (("whole", "bf16"), ("whole", "fp32"))
    for model, matrices in zip(options.models, found, strict=True):
        print(model)
        for (window, precision), ours in matrices.items():
            print(f"  {window}, {precision}: mIoU {100 * score(np.sum(ours, axis=0), data.classes.names).miou:.2f}")
        for title, (new, old) in pairs.items():
            print(f"  {title}: {told(difference([matrices[new]], [matrices[old]], groups))}")
    if len(found) > 1:
        print(f"mean of {len(found)} models")
        for title, (new, old) in pairs.items():
            print(f"  {title}: {told(difference([run[new] for run in found], [run[old] for run in found], groups))}")


def told(interval: Interval) -> str:
    """Write a difference with its interval."""
    return f"{interval.mean:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


if __name__ == "__main__":
    main()
