"""Memory and time of large frames: `unip predict` on a 10,000 x 8,000 frame, 8 and 16 bit, TIFF and PNG.

    python benchmarks/large_frames.py
    python benchmarks/large_frames.py --model micro --verb evaluate
    python benchmarks/large_frames.py --model runs/ft --size 5000 4000 --scale native
    python benchmarks/large_frames.py --model micro --out /tmp/large

Each frame is segmented by a process of its own. Its peak of resident memory is compared with that of the same call on a
frame of 640 x 512, which is the model's own. `--model micro` is a tiny untrained model: what it takes is what the rest
of the work takes. Frames are noise around synthetic shapes, so that files are about as large as real ones. Needs Linux,
which tells the peak of a process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

SMALL = (640, 512)
CLASSES = 8


def make_frame(width: int, height: int, seed: int) -> npt.NDArray[np.uint16]:
    """Return counts of a scene: warm rectangles on an uneven ground, and noise."""
    rng = np.random.default_rng(seed)
    frame = (8000 + 30 * rng.standard_normal((height, width), np.float32)).astype(np.uint16)
    frame += (300 * np.sin(np.arange(width) / 700) + 300).astype(np.uint16)
    for _ in range(width * height // 40_000):
        top, left = rng.integers(0, height), rng.integers(0, width)
        frame[top : top + rng.integers(8, 40), left : left + rng.integers(8, 40)] += np.uint16(rng.integers(300, 2000))
    return frame


def write_frames(folder: Path, width: int, height: int, kinds: str) -> dict[str, Path]:
    """Write a frame in all kinds whose name has ``kinds`` in it, and return its files by what they are."""
    counts = make_frame(width, height, 0)
    grey = (counts >> 6).astype(np.uint8)
    writers: dict[str, Callable[[Path], object]] = {
        "16-bit TIFF, rows": lambda file: tifffile.imwrite(file, counts),
        "16-bit TIFF, packed tiles": lambda file: tifffile.imwrite(file, counts, compression="zlib", tile=(512, 512)),
        "16-bit PNG": lambda file: Image.fromarray(counts).save(file, compress_level=1),
        "8-bit TIFF, packed strips": lambda file: tifffile.imwrite(file, grey, compression="zlib", rowsperstrip=64),
        "8-bit PNG": lambda file: Image.fromarray(grey).save(file, compress_level=1),
    }
    files = {}
    for number, (kind, write) in enumerate(writers.items()):
        if kinds in kind:
            files[kind] = folder / f"{width}x{height}-{number}.{'png' if 'PNG' in kind else 'tif'}"
            write(files[kind])
    return files


def make_micro(folder: Path) -> Path:
    """Write a tiny untrained model of 8 classes, trained (as it says) on frames of 640 x 512."""
    from unip.data.labelled.classes import Classes
    from unip.segmentation.model import Segmenter, SegmenterSpec
    from unip.segmentation.storage import save_segmenter
    from unip.segmentation.training_images import TrainingImages
    from unip.vit.architecture import BackboneSpec

    arguments = {"img_size": 512, "patch_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2}
    spec = SegmenterSpec(
        backbone=BackboneSpec(arguments=arguments),
        classes=Classes(("background", *(f"class {number}" for number in range(1, CLASSES)))),
        decoder="linear",
        layers=(2,),
        channels=8,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        images=TrainingImages(depth="both", colours="grey", size=(SMALL[1], SMALL[0])),
    )
    if not (folder / "model").exists():  # kept of an earlier call
        save_segmenter(Segmenter(spec).eval(), folder / "model")
    return folder


def measure(verb: str, model: str, image: Path, out: Path, scale: str) -> tuple[int, float, int]:
    """Run a verb in a process of its own; return its peak of memory in bytes, its seconds, and the windows if known."""
    command = [sys.executable, __file__, "--child", verb, model, str(image), str(out), scale]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return found["bytes"], found["seconds"], found["windows"]


def write_labelled(image: Path, folder: Path) -> Path:
    """Write labelled data of one image, whose mask is made up; return its folder."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "images" / image.name).unlink(missing_ok=True)
    (folder / "images" / image.name).symlink_to(image.absolute())
    with Image.open(image) as opened:
        width, height = opened.size
    mask = (np.arange(height)[:, None] // 100 + np.arange(width) // 100) % CLASSES
    Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{image.stem}.png", compress_level=1)
    names = ["background", *(f"class {number}" for number in range(1, CLASSES))]
    (folder / "classes.json").write_text(json.dumps({"names": names}))
    return folder


def child(verb: str, model: str, image: str, out: str, scale: str) -> None:
    """Segment one frame and print what it took."""
    import unip

    start = time.perf_counter()
    given = scale if scale in ("auto", "fit", "native") else float(scale)
    windows = 0
    if verb == "predict":
        unip.predict(model=model, images=(image,), out=out, device="cpu", scale=given, overwrite=True)
        windows = json.loads((Path(out) / "predictions.json").read_text())["images"][0]["windows"]
    else:
        unip.evaluate(model=model, data=image, split=None, out=out, device="cpu", scale=given, overwrite=True)
    seconds = time.perf_counter() - start
    # not getrusage, which begins with the peak of the process that started this one
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"bytes": 1024 * int(peak.split()[1]), "seconds": seconds, "windows": windows}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="unip-aerial-tiny", help="as of unip predict, or micro")
    parser.add_argument("--size", type=int, nargs=2, default=(10_000, 8_000), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--scale", default="auto", help="as of unip predict")
    parser.add_argument(
        "--verb", choices=("predict", "evaluate"), default="predict", help="evaluate: with a made-up mask"
    )
    parser.add_argument("--kinds", default="", help="only kinds of files whose name has this in it")
    parser.add_argument("--out", type=Path, help="keep frames and results here")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(*given.child)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model = str(make_micro(folder / "micro")) if given.model == "micro" else given.model
        Image.fromarray((make_frame(*SMALL, 1) >> 6).astype(np.uint8)).save(folder / "small.png")

        def measured(image: Path) -> tuple[int, float, int]:
            data = image if given.verb == "predict" else write_labelled(image, folder / f"labelled-{image.stem}")
            return measure(given.verb, model, data, folder / "results", given.scale)

        own, _, _ = measured(folder / "small.png")
        print(f"{given.model}: {own / 1e6:.0f} MB on a frame of {SMALL[0]}x{SMALL[1]}, which is the model's own")
        print(
            f"\n{'{} x {}'.format(*given.size):28s} {'file':>8s} {'memory beyond':>14s} {'windows':>8s} {'seconds':>8s}"
        )
        for kind, file in write_frames(folder, *given.size, given.kinds).items():
            peak, seconds, windows = measured(file)
            size, more = f"{file.stat().st_size / 1e6:.0f} MB", f"{(peak - own) / 1e6:.0f} MB"
            print(f"{kind:28s} {size:>8s} {more:>14s} {windows or '-':>8} {seconds:8.1f}", flush=True)
    return None


if __name__ == "__main__":
    main()
