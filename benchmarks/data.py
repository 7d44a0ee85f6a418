"""Speed of the work on image files: checking them, finding near duplicates, feeding a training.

    python benchmarks/data.py                     # 20,000 images, 1,000,000 hashes
    python benchmarks/data.py --images 500 --hashes 100000 --parts check dedup

`check`: files a second of what `unip data check`, `dedup` and `build` do with each file, beside the sum of a plain
decode, a perceptual hash and a histogram of the same files, all cores at work in both.
`dedup`: near_groups over random hashes, 5 % of them equal, with time and peak memory, and equality with brute force on
a sample that holds many near pairs.
`loader`: 224-px random-resized-crops a second that one core makes for pre-training, from files and from packed shards.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from unip.data.images.decoding import decode_image
from unip.data.manifests.facts import facts_of, histogram, perceptual_hash
from unip.data.manifests.hamming import near_groups
from unip.data.manifests.manifest import read_manifest
from unip.data.sampling.pretraining_crops import PretrainDataset
from unip.data.verbs import build, pack
from unip.runtime.workers import usable_cores

SCENES = 64  # different pictures; the files differ in noise
RADIUS = 4
LOADED = 2000  # images of the loader's part at most


def make_images(folder: Path, count: int) -> list[Path]:
    """Write 640x512 8-bit PNG files: smooth scenes with sensor noise, which compress about as thermal frames do."""
    rng = np.random.default_rng(0)
    scenes = [
        np.asarray(
            Image.fromarray(rng.integers(30, 226, (16, 20), dtype=np.uint8)).resize(
                (640, 512), Image.Resampling.BICUBIC
            )
        )
        for _ in range(SCENES)
    ]
    noise = np.rint(rng.normal(0, 2, (1024, 1280))).astype(np.int16)
    places = rng.integers(0, 512, (count, 2)).tolist()

    def write(index: int) -> Path:
        row, column = places[index]
        image = np.clip(scenes[index % SCENES] + noise[row : row + 512, column : column + 640], 0, 255)
        path = folder / f"{index:06d}.png"
        Image.fromarray(image.astype(np.uint8)).save(path, compress_level=1)
        return path

    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(write, range(count)))


def measure_check(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.fsencode(path) for path in make_images(Path(folder), count)]

        def plain(path: bytes) -> None:
            with open(path, "rb") as file:
                image = np.asarray(Image.open(io.BytesIO(file.read())))
            perceptual_hash(image)
            histogram(image, image)

        def run_plain() -> float:
            begun = time.perf_counter()
            with ThreadPoolExecutor(usable_cores()) as pool:
                for _ in pool.map(plain, paths):
                    pass
            return time.perf_counter() - begun

        def run_check(number: int) -> float:
            begun = time.perf_counter()
            journal = Path(folder) / f".facts{number}"
            problems = [facts.problem for facts in facts_of(paths, journal, workers=usable_cores())]
            assert problems == [None] * count
            return time.perf_counter() - begun

        decode_image(Path(os.fsdecode(paths[0])).read_bytes(), "first")  # what loads on first use
        times = [(run_plain(), run_check(number)) for number in range(2)]  # in turn: other work on the machine drifts
    sums, checks = (min(column) for column in zip(*times, strict=True))
    return {"images": count, "sum": count / sums, "check": count / checks, "ratio": checks / sums}


def measure_dedup(count: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    hashes[rng.permutation(count)[: count // 20]] = hashes[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    begun = time.perf_counter()
    groups = len(np.unique(near_groups(hashes, RADIUS)))
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sample = hashes[: min(count, 50_000)].copy()  # half of it within a few bits of another, else no pair would be near
    half = len(sample) // 2
    sample[half:] = sample[rng.integers(0, half, len(sample) - half)]
    for _ in range(5):
        sample[half:] ^= np.uint64(1) << rng.integers(0, 64, len(sample) - half, dtype=np.uint64)
    sample = sample[rng.permutation(len(sample))]
    begun = time.perf_counter()
    slow = brute_force(sample)
    slow_seconds = time.perf_counter() - begun
    return {
        "hashes": count,
        "seconds": seconds,
        "peak": peak,
        "on top": peak - before,
        "groups": groups,
        "sample": len(sample),
        "sample groups": len(np.unique(slow)),
        "equal": float(np.array_equal(near_groups(sample, RADIUS), slow)),
        "brute force": slow_seconds,
    }


def brute_force(hashes: np.ndarray) -> np.ndarray:
    """Connected components by comparing every hash with every other one that is in no group yet."""
    labels = np.full(len(hashes), -1)
    left = np.arange(len(hashes))
    while len(left):
        first, front = left[0], [left[0]]
        labels[first] = first
        left = left[1:]
        while front:
            near = np.bitwise_count(hashes[left] ^ hashes[front.pop()]) <= RADIUS
            labels[left[near]] = first
            front += left[near].tolist()
            left = left[~near]
    return labels


def measure_loader(count: int) -> dict[str, float]:
    """Crops a second of one thread; files and shards in the same order, in turn, nothing kept in memory."""
    torch.set_num_threads(1)
    count = min(count, LOADED)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        make_images(root / "images", count)
        with contextlib.redirect_stdout(io.StringIO()):
            build(sources=[f"infrared={root / 'images'}"], out=root / "mix")
            pack(manifest=root / "mix/manifest.parquet", out=root / "packed")
            pack(manifest=root / "mix/manifest.parquet", out=root / "small", short_side=256)
        places = {
            "files": root / "mix/manifest.parquet",
            "packed": root / "packed",
            "packed, short side 256": root / "small",
        }
        sets = {name: PretrainDataset(read_manifest(place), cache="none") for name, place in places.items()}
        rates = dict.fromkeys(sets, 0.0)
        for _ in range(2):
            for name, dataset in sets.items():
                begun = time.perf_counter()
                for position in range(count):
                    dataset[position]
                rates[name] = max(rates[name], count / (time.perf_counter() - begun))
    return {"images": count, **rates}


PARTS = {"check": measure_check, "dedup": measure_dedup, "loader": measure_loader}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # of a process of its own
    given = parser.parse_args()
    counts = {"check": given.images, "dedup": given.hashes, "loader": given.images}
    if given.part:
        print(json.dumps(PARTS[given.part](counts[given.part])))
        return
    console = Console()
    for part in given.parts:
        call = [sys.executable, __file__, "--part", part, f"--images={given.images}", f"--hashes={given.hashes}"]
        done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
        console.print(report(part, json.loads(done.stdout.splitlines()[-1])))


def report(part: str, found: dict[str, float]) -> Table:
    if part == "check":
        table = Table(title=f"{found['images']:,} images of 640x512, {usable_cores()} cores")
        rows = {
            "decode + perceptual hash + histogram": f"{found['sum']:.0f} images/s",
            "check (facts of each file, with journal)": f"{found['check']:.0f} images/s",
            "time of check over that of the sum": f"{found['ratio']:.2f}",
        }
    elif part == "loader":
        table = Table(title=f"{found.pop('images'):,} images of 640x512, 224-px crops, one core")
        rows = {name: f"{rate:.0f} images/s" for name, rate in found.items()}
    else:
        table = Table(title=f"{found['hashes']:,} hashes of 64 bits, 5 % equal, radius {RADIUS}")
        equal = "equal" if found["equal"] else "NOT EQUAL"
        rows = {
            "time": f"{found['seconds']:.1f} s",
            "peak memory (of it on top of the program and the hashes)": (
                f"{found['peak'] / 1e9:.2f} GB ({found['on top'] / 1e9:.2f} GB)"
            ),
            "groups": f"{found['groups']:,}",
            f"brute force on {found['sample']:,} ({found['sample groups']:,} groups)": (
                f"{equal}, {found['brute force']:.1f} s"
            ),
        }
    table.add_column("what")
    table.add_column("measured", justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


if __name__ == "__main__":
    main()
