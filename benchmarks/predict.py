"""How fast `unip predict` makes masks, from files to files: on a CPU against an older checkout, and on a GPU.

    git worktree add ../old 0dd6726
    taskset -c 0,1 python benchmarks/predict.py cpu --old ../old        # two cores of a CPU
    python benchmarks/predict.py gpu                                    # one GPU and the cores beside it

Every row is the command line in a process of its own. Start-up is left out by a difference: a run over many frames less
a run over few of them, by the frames between. Runs of all rows take turns, and the median of five is told. Models have
random weights, which changes no time but says nothing about masks. Frames are made, or given with --images.

`cpu` compares with the same windows on both sides, and whole frames in rows of their own. Files of ONNX Runtime and
OpenVINO are exported first; what cannot be is left out with its reason. Give a file that was exported elsewhere with
--file MODEL=FILE, such as vit_t-light=runs/a/export/a-int8.xml.

`export` does only that, into a folder, for another machine or a later time. There, nothing is exported, and onnx and
nncf need not be installed:

    python benchmarks/predict.py export --models-at FILES --models vit_s-light vit_s-upernet
    taskset -c 0,1 python benchmarks/predict.py cpu --models-at FILES --no-export --models vit_s-light --old ../old

`gpu` tells frames/s, how fast reading, model and writing are alone (the slowest of them gives out first), and the share
of the time in which the GPU computes (torch.profiler, in a run over fewer frames). It does so for frames of 12 windows
(short side 1,024) and of one (512), with a compiled model and without; --short-sides, --modes and --parts leave some of
it out. What is known of a row is printed at once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from unip.data.images.files import list_images
from unip.data.labelled.classes import Classes
from unip.deployment.config import PredictConfig
from unip.deployment.engine import Wanted
from unip.deployment.model import Model, Unreadable
from unip.deployment.names import name_outputs, result_files
from unip.deployment.prediction import segment_images
from unip.deployment.sharing import arena_for
from unip.deployment.writing import Writer, Writing
from unip.outputs import output_folder
from unip.runtime.device import native_bfloat16
from unip.runtime.queues import workers_for
from unip.runtime.workers import usable_cores
from unip.segmentation.inference import Sharing, decoded
from unip.segmentation.model import Segmenter, SegmenterSpec
from unip.segmentation.storage import save_segmenter
from unip.segmentation.strips import InStrips
from unip.segmentation.training_images import TrainingImages
from unip.vit.architecture import BackboneSpec

SIZE = (512, 640)  # height and width of made frames, in pixels
NAMES = ("background", "person", "car", "bicycle", "other_vehicle")
MODELS = {
    "vit_t-light": ("deit_tiny_patch16_224", "light"),
    "vit_s-light": ("deit_small_patch16_224", "light"),
    "vit_s-upernet": ("deit_small_patch16_224", "upernet"),
}
MODES, PARTS = ("eager", "compiled"), ("whole", "alone", "busy")
EXPORTS = (("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))
HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """A way to segment: its name, the checkout that does it, and what the command line gets."""

    name: str
    checkout: Path
    words: tuple[str, ...]


def make_frames(folder: Path, count: int) -> Path:
    """Write grey PNG frames with smooth grounds, noise and some warm rectangles."""
    folder.mkdir(parents=True)
    with ProcessPoolExecutor(usable_cores(), get_context("fork")) as pool:
        list(pool.map(partial(make_frame, folder), range(count), chunksize=8))
    return folder


def make_frame(folder: Path, number: int) -> None:
    """Write one of them."""
    rng = np.random.default_rng(number)
    height, width = SIZE
    ground = Image.fromarray(rng.integers(60, 160, (8, 10), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    frame = np.asarray(ground).astype(np.float32) + rng.normal(0, 3, SIZE)
    for _ in range(12):
        top, left = rng.integers(0, height - 40), rng.integers(0, width - 40)
        frame[top : top + rng.integers(8, 40), left : left + rng.integers(8, 40)] += 80
    Image.fromarray(frame.clip(0, 255).astype(np.uint8)).save(folder / f"{number:05}.png")


def make_model(folder: Path, name: str, short_side: int = 512) -> Path:
    """Write a model with random weights."""
    from unip.segmentation.model import default_channels, default_layers

    timm_name, decoder = MODELS[name]
    width, depth = (192, 12) if "tiny" in timm_name else (384, 12)
    torch.manual_seed(0)
    spec = SegmenterSpec(
        backbone=BackboneSpec(timm_name=timm_name, arguments={"img_size": 224}),
        classes=Classes(NAMES),
        decoder=decoder,
        layers=default_layers(decoder, "llfpn", depth),
        channels=default_channels(decoder, width),
        auxiliary_weight=0.0,
        mean=(0.38,) * 3,
        std=(0.19,) * 3,
        short_side=short_side,
        images=TrainingImages(depth="8 bits", colours="grey", size=SIZE),
    )
    save_segmenter(Segmenter(spec).eval(), folder)
    return folder


def call(checkout: Path, *words: object) -> tuple[float, str]:
    """Run the command line of a checkout; return its seconds and what it printed.

    Raises:
        RuntimeError: It failed.
    """
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "unip", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(checkout / "src")},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or done.stdout.strip())[-300:])
    return time.perf_counter() - start, done.stdout


def seconds_a_frame(row: Row, few: Path, many: Path, between: int) -> float:
    """Return the seconds a frame of a row, without start-up."""
    with tempfile.TemporaryDirectory() as out:
        seconds = [
            call(row.checkout, "predict", *row.words, place, "--out", Path(out) / place.name)[0]
            for place in (few, many)
        ]
    return (seconds[1] - seconds[0]) / between


def split_frames(folder: Path, work: Path, few: int, many: int) -> tuple[Path, Path]:
    """Copy few and many of the frames into folders, again from the first where there are not so many."""
    paths = list_images(folder)
    for name, count in (("few", few), ("many", many)):
        (work / name).mkdir()
        for number in range(count):
            path = paths[number % len(paths)]
            shutil.copyfile(path, work / name / f"{number:05}{path.suffix}")
    return work / "few", work / "many"


def exported(model: Path, frames: Path, name: str) -> None:
    """Export a model in all ways that there are, judged by its own masks; say what is left out."""
    data = model.parent / f"{name}-data"
    words: list[object] = ["--device", "cpu", "--engine", "torch", "--no-overlays", "--window", "whole"]
    call(HERE, "predict", model, frames, "--out", data, *words)
    shutil.copytree(frames, data / "images")
    (data / "classes.json").write_text(json.dumps({"names": NAMES}))
    for engine, precision in EXPORTS:
        words = ["--to", engine, "--precision", precision, "--data", data, "--split", "", "--tolerance", 100]
        words += ["--calibration", frames] if precision == "int8" else []
        try:
            call(HERE, "export", model, *words)
        except RuntimeError as error:
            print(f"left out: {name}, {engine} {precision}: {' '.join(str(error).split())}")
    shutil.rmtree(data)


def exported_rows(model: Path, name: str) -> Iterator[Row]:
    """Yield a row for each exported file of a model."""
    for engine, precision in EXPORTS:
        suffix = {"onnx": "onnx", "openvino": "xml"}[engine]
        file = model / "export" / f"{name}-{precision}.{suffix}"
        if file.exists():
            yield Row(f"{engine} {precision}, whole frames", HERE, (str(file), "--device", "cpu"))


def export_all(options: argparse.Namespace, work: Path) -> None:
    """Make models and export them into a folder."""
    frames = make_frames(work / "frames", options.few)
    for name in options.models:
        model = make_model(options.models_at / name, name)
        exported(model, frames, name)
        print(f"{model}: {', '.join(row.name for row in exported_rows(model, name))}", flush=True)


#: Makes a model with an older checkout, whose names of weights may be others, by those settings that it knows.
OLDER = """
import importlib, json, sys
from pathlib import Path
room = "segmentation" if importlib.util.find_spec("unip.segmentation") else "segment"
model, storage = (importlib.import_module(f"unip.{room}.{name}") for name in ("model", "storage"))
known = {name: value for name, value in json.loads(sys.argv[1]).items() if name in model.SegmenterSpec.model_fields}
storage.save_segmenter(model.Segmenter(model.SegmenterSpec(**known)).eval(), Path(sys.argv[2]))
"""


def for_older(model: Path, folder: Path, old: Path) -> Path:
    """Write a model like another with an older checkout."""
    folder.parent.mkdir(exist_ok=True)
    spec = json.dumps(json.loads((model / "config.json").read_text())["spec"])
    env = {**os.environ, "PYTHONPATH": str(old / "src")}
    subprocess.run([sys.executable, "-c", f"import importlib.util{OLDER}", spec, str(folder)], env=env, check=True)
    return folder


def rows_of(model: Path, with_files: Path, name: str, old: Path | None, files: list[str]) -> list[Row]:
    """Return what is compared for a model."""
    cpu = ("--device", "cpu")
    rows = []
    if old:
        older = for_older(model, model.parent / "older" / name, old)
        rows.append(Row("older default", old, (str(older), *cpu)))
        rows.append(Row("older, whole frames", old, (str(older), *cpu, "--window", "whole")))
    torch_of = (str(model), *cpu, "--engine", "torch")
    rows += [
        Row("torch fp32, same windows", HERE, (*torch_of, "--precision", "fp32", "--window", "slide")),
        Row("torch fp32, whole frames", HERE, (*torch_of, "--precision", "fp32")),
        Row("torch bf16, whole frames", HERE, (*torch_of, "--precision", "bf16")),
        Row("new default, nothing exported", HERE, (str(model), *cpu)),
    ]
    if not native_bfloat16():
        print("left out: torch bf16: this processor has no bfloat16")
        rows = [row for row in rows if "bf16" not in row.name]
    made = list(exported_rows(with_files, name))
    given = [file.split("=", 1)[1] for file in files if file.startswith(f"{name}=")]
    rows += [*made, *(Row(f"{Path(file).name}, whole frames", HERE, (file, *cpu)) for file in given)]
    if made:
        rows.append(Row(f"new default, which takes {taken(with_files)}", HERE, (str(with_files), *cpu)))
    return rows


def taken(model: Path) -> str:
    """Name what runs a model that was exported: random weights make a file lose mIoU, and then it is not chosen."""
    import unip

    view = unip.load(model, device="cpu", engine="auto").engine.facts.view
    return view.rpartition(os.sep)[2] if ", by " in view else "none of these"


def measure_cpu(options: argparse.Namespace, work: Path) -> None:
    """Print a table for each model."""
    frames = options.images or make_frames(work / "frames", options.frames)
    few, many = split_frames(frames, work, options.few, options.few + options.frames)
    print(f"{processor()}, {usable_cores()} cores, torch {torch.__version__}, {len(list_images(frames))} frames\n")
    for name in options.models:
        if options.models_at:
            with_files = options.models_at / name
            model = shutil.copytree(with_files, work / name, ignore=shutil.ignore_patterns("export"))
        else:
            model = make_model(work / name, name)
            with_files = shutil.copytree(model, work / "exported" / name)
        if not options.no_export:
            exported(with_files, few, name)
        rows = rows_of(model, with_files, name, options.old, options.file)
        times: dict[str, list[float]] = defaultdict(list)
        for _ in range(options.repeat):
            for row in rows:
                times[row.name].append(seconds_a_frame(row, few, many, options.frames))
        first = median(times[rows[0].name])
        print(
            f"| {name}, files to masks and overlays | ms a frame (least to most) | frames/s | speed-up |\n"
            "|---|---|---|---|"
        )
        for row in rows:
            found = times[row.name]
            middle = median(found)
            span = f"{1000 * min(found):.0f} to {1000 * max(found):.0f}"
            print(f"| {row.name} | {1000 * middle:.0f} ({span}) | {1 / middle:.2f} | {first / middle:.2f} x |")
        print(flush=True)


def measure_gpu(options: argparse.Namespace, work: Path) -> None:
    """Print a table of both sizes."""
    frames = options.images or make_frames(work / "frames", min(options.frames, 500))
    few, many = split_frames(frames, work, options.few, options.few + options.frames)
    print(f"{torch.cuda.get_device_name()}, {usable_cores()} cores of {processor()}, torch {torch.__version__}\n")
    print("| ViT-T, light decoder | frames/s | reading alone | model alone | writing alone | GPU computes |")
    print("|---|---|---|---|---|---|", flush=True)
    for short_side in options.short_sides:
        folder = make_model(work / f"vit_t-{short_side}", "vit_t-light", short_side)
        for mode in options.modes:
            windows = {1024: "12 windows", 512: "1 window"}.get(short_side, f"short side {short_side}")
            print(f"| {windows} a frame, {mode}", end="", flush=True)
            for cell in cells(options, folder, few, many, work / f"{short_side}-{mode}", compiled=mode == "compiled"):
                print(f" | {cell}", end="", flush=True)
            print(" |", flush=True)


def cells(
    options: argparse.Namespace, folder: Path, few: Path, many: Path, work: Path, *, compiled: bool
) -> Iterator[str]:
    """Yield what is told of a model in a row of the table."""
    import unip

    work.mkdir()
    if "whole" in options.parts:
        row = Row("gpu", HERE, (str(folder), "--device", "cuda", *(["--compile"] if compiled else [])))
        if compiled:  # so that the runs that are timed both find its kernels
            call(HERE, "predict", *row.words, few, "--out", work / "warm")
        found = [seconds_a_frame(row, few, many, options.frames) for _ in range(options.repeat)]
        yield f"{1 / median(found):,.1f}"
    else:
        yield "-"
    if "alone" in options.parts:
        model = unip.load(folder, device="cuda", compile=compiled)
        yield from (f"{rate:,.0f}/s" for rate in rates_alone(model, list_images(many), work / "writing"))
        del model
    else:
        yield from ("-", "-", "-")
    yield (
        f"{100 * busy_share(folder, many, work / 'busy', compiled=compiled):.0f} %" if "busy" in options.parts else "-"
    )


def rates_alone(model: Model, paths: list[Path], out: Path) -> Iterator[float]:
    """Yield frames/s of reading, model and writing when nothing else is done."""
    from unip.deployment.engines.torch_engine import TorchEngine, _Files, _moved, _Preparing
    from unip.deployment.inputs import Reader

    engine = model.engine
    assert isinstance(engine, TorchEngine)
    prepare = _Preparing(Reader(model.conversion), model.facts.scaling, InStrips(len(NAMES), model.facts.scaling))
    arena = arena_for(paths, model.facts.scaling)
    start, ready = time.perf_counter(), []
    for _, frame in decoded(_Files(paths, prepare), "auto", None if arena is None else Sharing(arena, _moved)):
        ready += [frame] if len(ready) < 100 else []  # the others make room for those that follow
    yield len(paths) / (time.perf_counter() - start)

    repeats = 4, max(8, len(paths) // len(ready))
    for repeat in repeats:  # the first time, graphs are captured and kernels compiled
        torch.cuda.synchronize()
        start = time.perf_counter()
        for group in engine.inference.groups(ready * repeat):
            engine._found(group, Wanted(confidence=False))
        torch.cuda.synchronize()
    yield len(ready) * repeats[1] / (time.perf_counter() - start)

    del ready, frame
    arena = arena_for(paths, model.facts.scaling)
    found = model.segment(paths[:100], wanted=Wanted(confidence=False), arena=arena)
    results = [each for each in found if not isinstance(each, Unreadable)]
    config = PredictConfig(model=Path("m"), images=tuple(paths), out=out)
    names = name_outputs([paths[0].parent], out)
    with output_folder(out), workers_for(len(paths)) as pool:
        writing = Writing(Writer.of(config), pool)
        start = time.perf_counter()
        for number, path in enumerate(paths):
            writing.add(results[number % len(results)], result_files(names[path], config))
        writing.finish()
        yield len(paths) / (time.perf_counter() - start)


def busy_share(folder: Path, images: Path, out: Path, *, compiled: bool) -> float:
    """Return the share of the time, from the second tenth of the kernels on, in which the GPU computes."""
    config = PredictConfig(model=folder, images=(images,), out=out, device="cuda", compile=compiled)
    names = dict(list(name_outputs(config.images, out).items())[:400])
    with output_folder(out), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        segment_images(config, names)
        torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and "Memcpy" not in event.name
    )
    spans = spans[len(spans) // 10 :]  # those before are of start-up
    busy, end = 0.0, spans[0][0]
    for begin, stop in spans:
        busy += max(0.0, stop - max(begin, end))
        end = max(end, stop)
    return busy / (end - spans[0][0])


def processor() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} ({native_bfloat16() or 'no bfloat16'})"


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", choices=("cpu", "gpu", "export"))
    parser.add_argument("--old", type=Path, help="an older checkout to compare with")
    parser.add_argument("--images", type=Path, help="a folder of frames; left out, 640x512 ones are made")
    parser.add_argument("--frames", type=int, help="over which times are measured (cpu: 40, gpu: 2000)")
    parser.add_argument("--few", type=int, help="frames of the shorter run (cpu: 8, gpu: 200)")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each row")
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=list(MODELS))
    parser.add_argument("--file", nargs="*", default=[], help="further exported files, MODEL=FILE")
    parser.add_argument(
        "--short-sides", nargs="+", type=int, default=[1024, 512], help="gpu: to which frames are resized"
    )
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="gpu: of the model")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="gpu: what is measured")
    parser.add_argument("--models-at", type=Path, help="folder of model folders, exported files inside: use those")
    parser.add_argument("--no-export", action="store_true", help="export nothing; measure the files that there are")
    options = parser.parse_args()
    options.frames = options.frames or (2000 if options.where == "gpu" else 40)
    options.few = options.few or (200 if options.where == "gpu" else 8)
    if options.where == "gpu" and not torch.cuda.is_available():
        parser.error("torch finds no GPU")
    if options.old and not (options.old / "src/unip").is_dir():
        parser.error(f"{options.old} is no checkout of unip")
    if options.where == "export" and not options.models_at:
        parser.error("give a folder for the models with --models-at")
    if options.old:
        options.old = options.old.absolute()
    if options.models_at:
        options.models_at = options.models_at.absolute()
    with tempfile.TemporaryDirectory(prefix="unip-predict-") as work:
        {"cpu": measure_cpu, "gpu": measure_gpu, "export": export_all}[options.where](options, Path(work))


if __name__ == "__main__":
    main()
