"""How fast other libraries make masks on two CPU cores, beside `unip predict`: from files to files.

    python benchmarks/peers.py --envs ../peer-envs --prepare                      # makes the environments
    python benchmarks/peers.py --envs ../peer-envs --file runs/a/export/a-int8.xml

This is about speed only: all models have random weights, and nothing is said about masks. Every peer runs in an
environment of its own, which uv makes, so that none of them comes into ours. What cannot be installed is left out, with
its reason.

Every row reads frames of 640x512 (PNG), segments them at a short side of 512, and writes a mask of class ids (PNG) of
the frame's own size. Start-up is left out by a difference: a run over many frames less a run over few, by the frames
between. Rows take turns; the median is told. Every row has the first two cores that this process may use, and torch two
threads. Peers run frame after frame in fp32, as their documentation does it (benchmarks/peers_run.py):

- SegFormer-b0 by transformers: the processor without its resizing to a square, the model, the processor's masks;
- U-Net with a ResNet-34 by segmentation_models_pytorch, its defaults;
- EoMT with a DINOv3 ViT-Tiny by lightly-train: its `predict`, which sees such a frame as two square windows;
- YOLO11n-seg by Ultralytics: its `predict` with suppression of 120 boxes and masks of at most 12 objects a frame, which
  are drawn into one mask. It finds instances, so this is another task;
- YOLO26n-sem by Ultralytics: its `predict` for semantic segmentation.

Ours are `unip predict --no-overlays` with a ViT-Tiny and a light decoder: torch in fp32, what it does where nothing was
exported, and the files that are given with --file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import predict

RUNNER = Path(__file__).with_name("peers_run.py")
MODEL = "vit_t-light"
THREADS = 2
OURS = "unip, nothing exported"

About = dict[str, str]  # versions of packages, and what was special


@dataclass(frozen=True)
class Peer:
    """A model of another library: its name in peers_run.py, what it is, and the packages of its environment."""

    name: str
    title: str
    packages: tuple[str, ...]


TRANSFORMERS = ("transformers", "torch", "torchvision", "pillow")
PEERS = (
    Peer("segformer", "SegFormer-b0, transformers", TRANSFORMERS),
    Peer("unet", "U-Net (ResNet-34), segmentation_models_pytorch", ("segmentation-models-pytorch",)),
    Peer("eomt", "EoMT (DINOv3 ViT-Tiny), lightly-train", ("lightly-train",)),
    Peer("yolo-instances", "YOLO11n-seg, Ultralytics", ("ultralytics",)),
    Peer("yolo-semantic", "YOLO26n-sem, Ultralytics", ("ultralytics",)),
)

#: Nothing is sent, fetched or installed while it runs.
QUIET = {"HF_HUB_OFFLINE": "1", "LIGHTLY_TRAIN_EVENTS_DISABLED": "1", "YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0"}


def python_of(peer: Peer, envs: Path) -> Path:
    """Return the interpreter of a peer; make its environment if there is none.

    Raises:
        RuntimeError: It cannot be installed.
    """
    env = envs / peer.packages[0]
    if not (env / "installed").exists():
        uv = [shutil.which("uv")] if shutil.which("uv") else [sys.executable, "-m", "uv"]
        _checked([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, env])
        _checked([*uv, "pip", "install", "--quiet", "--python", env / "bin/python", *peer.packages])
        (env / "installed").touch()
    return env / "bin/python"


def run_peer(peer: Peer, envs: Path, frames: Path, out: Path) -> About:
    """Segment frames with a peer; return what it says about itself.

    Raises:
        RuntimeError: It failed.
    """
    env = {**os.environ, **QUIET, "YOLO_CONFIG_DIR": str(envs), "OMP_NUM_THREADS": str(THREADS)}
    env.pop("PYTHONPATH", None)
    printed = _checked([python_of(peer, envs), RUNNER, peer.name, frames, out], env)
    return {str(key): str(value) for key, value in json.loads(printed.splitlines()[-1]).items()}


def _checked(words: list[object], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(list(map(str, words)), env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or done.stdout.strip())[-300:])
    return done.stdout


def run_ours(words: tuple[object, ...], frames: Path, out: Path) -> None:
    """Segment frames with the command line of this checkout."""
    predict.call(predict.HERE, "predict", *words, frames, "--out", out, "--no-overlays", "--device", "cpu")


def usable_peers(options: argparse.Namespace, frames: Path, work: Path) -> dict[Peer, About]:
    """Return the peers that run here and what they say about themselves; print why others do not."""
    found = {}
    for peer in PEERS:
        if options.peers is not None and peer.name not in options.peers:
            continue
        try:
            found[peer] = run_peer(peer, options.envs, frames, work / "trial" / peer.name)
        except RuntimeError as error:
            print(f"left out: {peer.title}: {' '.join(str(error).split())}")
    return found


def measure(options: argparse.Namespace, work: Path) -> None:
    """Print the table."""
    frames = predict.make_frames(work / "frames", options.few + options.frames)
    few, many = predict.split_frames(frames, work, options.few, options.few + options.frames)
    model = predict.make_model(work / MODEL, MODEL)
    rows: dict[str, Callable[[Path, Path], object]] = {
        "unip, torch fp32": partial(run_ours, (model, "--engine", "torch", "--precision", "fp32")),
        OURS: partial(run_ours, (model,)),
        **{f"unip, {file.name}": partial(run_ours, (file,)) for file in options.file},
    }
    peers = usable_peers(options, few, work)
    rows |= {peer.title: partial(run_peer, peer, options.envs) for peer in peers}
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.repeat):
        for name, run in rows.items():
            seconds = []
            for place in (few, many):
                start = time.perf_counter()
                run(place, Path(tempfile.mkdtemp(dir=work)) / "masks")
                seconds.append(time.perf_counter() - start)
            times[name].append((seconds[1] - seconds[0]) / options.frames)
    print_table(times, {peer.title: about for peer, about in peers.items()}, options)


def print_table(times: dict[str, list[float]], about: dict[str, About], options: argparse.Namespace) -> None:
    """Print medians, their ratios to our default, and what each row was."""
    ours = median(times[OURS])
    print(f"{predict.processor()}, {THREADS} cores; ours with torch {predict.torch.__version__}")
    print(f"{options.frames} frames of 640x512, {options.repeat} repetitions\n")
    print(f"| frames to mask files | ms a frame (least to most) | times {OURS} | with |")
    print("|---|---|---|---|")
    for name, found in times.items():
        middle = median(found)
        span = f"{1000 * min(found):.0f} to {1000 * max(found):.0f}"
        facts = about.get(name, {})
        words = ", ".join(f"{key} {value}" for key, value in facts.items())
        print(f"| {name} | {1000 * middle:.0f} ({span}) | {middle / ours:.2f} | {words} |")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=Path, required=True, help="folder of the environments; made if there is none")
    parser.add_argument("--prepare", action="store_true", help="make the environments and try each peer, nothing else")
    parser.add_argument("--file", type=Path, nargs="*", default=[], help="exported files of a ViT-T, light decoder")
    parser.add_argument("--peers", nargs="*", choices=[peer.name for peer in PEERS], help="which; left out: all")
    parser.add_argument("--frames", type=int, default=24, help="over which times are measured")
    parser.add_argument("--few", type=int, default=4, help="frames of the shorter run")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each row")
    options = parser.parse_args()
    options.envs = options.envs.absolute()
    options.envs.mkdir(parents=True, exist_ok=True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    with tempfile.TemporaryDirectory(prefix="unip-peers-") as work:
        if options.prepare:
            usable = usable_peers(options, predict.make_frames(Path(work) / "frames", 2), Path(work))
            for peer, about in usable.items():
                print(f"ready: {peer.title}: {about}")
        else:
            measure(options, Path(work))


if __name__ == "__main__":
    main()
