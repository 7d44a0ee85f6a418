"""How fp32 and fp16 ONNX files run on ONNX Runtime's CUDA provider: masks, logits, types, latency.

On a machine with a GPU:

    pip install onnxruntime-gpu                       # with CUDA 13, beside torch 2.11+cu130
    python benchmarks/export_cuda.py --model runs/ft --frames DATA/test/images --out cuda.json
    python benchmarks/export_cuda.py --model ViT-S --decoder upernet      # random weights, made frames
    python benchmarks/export_cuda.py --model unip-aerial-tiny --files tiny-fp32.onnx tiny-fp16.onnx   # exported before

Exporting needs onnx and onnxscript, and takes half a minute a model; `--export-only FOLDER` does only that, on any
machine, so that `--files` takes them here. Without --model, files are compared with the golden frames that they carry.

Every file is run with the CUDA provider alone, without a fallback, and the run is profiled: a node that ran elsewhere
is named, with the time that it took, and nodes that compute features (Conv, MatMul, Gemm, LayerNormalization, Softmax,
Resize) must all run on the GPU. Fails (exit code 1) if one does not, if an operation that has to be float32 is not, or
if masks differ more than the precision may (fp32 99.9 %, fp16 99 % of pixels, least over all frames). TF32 is off.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from unip.deployment.export.metadata import GOLDEN_KEY, INPUT_NAME, KEY, ExportMetadata, unpack_golden

NEEDED = {"fp32": 0.999, "fp16": 0.99}
FLOAT32 = ("LayerNormalization", "Softmax", "ReduceMax", "ReduceSum", "ReduceMean", "ReduceMin", "Exp", "Resize")
ON_GPU = ("Conv", "ConvTranspose", "MatMul", "Gemm", "LayerNormalization", "Softmax", "Resize", "Gelu")
PROVIDER = "CUDAExecutionProvider"
SHAPES = ((512, 640), (480, 640), (384, 288), (256, 320))  # of frames that are made


@dataclass
class Measured:
    """What was found of a file."""

    file: str
    precision: str
    input: str
    same: list[float] = field(default_factory=list)
    difference: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    providers: list[str] = field(default_factory=list)
    ran_on: dict[str, dict[str, int]] = field(default_factory=dict)
    elsewhere_ms: dict[str, float] = field(default_factory=dict)
    types: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def types_of(path: Path) -> dict[str, dict[str, int]]:
    """Count the nodes of each operation by the type of their float inputs, by walking the graph."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    graph = model.graph
    kinds = {each.name: each.data_type for each in graph.initializer}
    kinds |= {each.name: each.type.tensor_type.elem_type for each in (*graph.value_info, *graph.input, *graph.output)}
    floats = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}
    found: dict[str, Counter[str]] = {}
    for node in graph.node:
        types = {floats[kinds[name]] for name in node.input if kinds.get(name) in floats}
        if node.op_type != "Cast" and types:
            found.setdefault(node.op_type, Counter())["+".join(sorted(types))] += 1
    return {name: dict(count) for name, count in sorted(found.items())}


def open_session(path: Path, device: str, profile: Path | None) -> Any:
    """Open a file on one provider only.

    Raises:
        SystemExit: There is no CUDA provider, or the session does not have it.
    """
    import onnxruntime

    wanted = PROVIDER if device == "cuda" else "CPUExecutionProvider"
    if wanted not in onnxruntime.get_available_providers():
        sys.exit(f"no {wanted}: this onnxruntime has {onnxruntime.get_available_providers()}; install onnxruntime-gpu")
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA and cuDNN of torch's wheels
    options = onnxruntime.SessionOptions()
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    settings = [(wanted, {"use_tf32": "0"})] if device == "cuda" else [wanted]
    session = onnxruntime.InferenceSession(str(path), options, providers=settings)
    session.disable_fallback()
    if session.get_providers()[0] != wanted:
        sys.exit(f"{path} fell back to {session.get_providers()}: CUDA or cuDNN is missing or of another version")
    return session


def where_nodes_ran(profile: str) -> tuple[dict[str, dict[str, int]], dict[str, float]]:
    """Return how many calls of each operation ran on which provider, and the milliseconds of those not on the GPU."""
    ran: dict[str, Counter[str]] = {}
    elsewhere: Counter[str] = Counter()
    for event in json.loads(Path(profile).read_text()):
        held = event.get("args", {})
        if event.get("cat") != "Node" or not held.get("provider"):
            continue
        ran.setdefault(held["op_name"], Counter())[held["provider"]] += 1
        if held["provider"] != PROVIDER:
            elsewhere[held["op_name"]] += event["dur"] / 1000
    return {name: dict(count) for name, count in ran.items()}, dict(elsewhere)


def measure(path: Path, frames: list[Any], expected: list[Any], options: argparse.Namespace) -> Measured:
    """Run a file on frames, and compare it with what the model has in torch (ids, and logits or None)."""
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(path, options.device, Path(folder) / "profile")
        metadata = ExportMetadata.from_json(session.get_modelmeta().custom_metadata_map.get(KEY), str(path))
        found = Measured(str(path), metadata.precision, metadata.input, providers=session.get_providers())
        for frame in frames[:2]:
            session.run(["ids"], {INPUT_NAME: frame})
        found.ran_on, found.elsewhere_ms = where_nodes_ran(session.end_profiling())
    session = open_session(path, options.device, None)
    for frame, (ids, logits) in zip(frames, expected, strict=True):
        mine, scores = session.run(["ids", "logits"], {INPUT_NAME: frame})
        found.same.append(float((mine == ids).mean()))
        if logits is not None:
            found.difference.append(float(np.abs(scores - logits).max() / np.ptp(logits)))
    for number in range(options.repeats):
        frame = frames[number % len(frames)]
        start = time.perf_counter()
        session.run(["ids"], {INPUT_NAME: frame})
        found.latency_ms.append(1000 * (time.perf_counter() - start))
    found.types = types_of(path)
    found.problems = list(problems_of(found, options.device))
    return found


def problems_of(found: Measured, device: str) -> list[str]:
    """Say what must not be."""
    problems = []
    for name, count in found.types.items():
        if name in FLOAT32 and set(count) != {"float32"}:
            problems.append(f"{name} is {', '.join(count)}")
    if found.precision == "fp16" and "float16" not in "".join(found.types.get("MatMul", {})):
        problems.append("no product is float16")
    if device == "cuda":
        for name, count in found.ran_on.items():
            if name.removeprefix("Fused") in ON_GPU and set(count) != {PROVIDER}:
                problems.append(f"{name} ran on {count}")
        if not any(PROVIDER in count for count in found.ran_on.values()):
            problems.append("nothing ran on the GPU")
    needed = NEEDED.get(found.precision, 0.95)
    if min(found.same) < needed:
        problems.append(f"only {100 * min(found.same):.3f} % of a frame's pixels have the model's class")
    return problems


def torch_outputs(segmenter: Any, frames: list[Any]) -> list[Any]:
    """Return ids and logits of the model in float32, on the processor."""
    from unip.deployment.export.reference import reference_logits

    found = []
    for frame in frames:
        logits = reference_logits(segmenter, frame).numpy()
        found.append((logits.argmax(0).astype(np.uint8), logits))
    return found


def torch_latency(segmenter: Any, frames: list[Any], repeats: int) -> dict[str, list[float]]:
    """Return the milliseconds of torch's network alone on the GPU, in float32 and under autocast to float16."""
    import torch

    if not torch.cuda.is_available():
        return {}
    from unip.deployment.export.resampling import resized_length

    model, side = segmenter.cuda(), segmenter.spec.short_side
    found: dict[str, list[float]] = {"torch fp32, network": [], "torch fp16, network": []}
    for name, times in found.items():
        for number in range(repeats + 3):
            height, width = frames[number % len(frames)].shape[:2]
            size = [resized_length(each, min(height, width), side) for each in (height, width)]
            image = torch.zeros((1, 3, *size), dtype=torch.uint8)
            torch.cuda.synchronize()
            start = time.perf_counter()
            with torch.no_grad(), torch.autocast("cuda", torch.float16, enabled="fp16" in name):
                model(image.cuda()).argmax(1).byte().cpu()
            if number >= 3:
                times.append(1000 * (time.perf_counter() - start))
    segmenter.cpu()
    return found


def load_model(options: argparse.Namespace) -> Any:
    """Return the segmenter of a folder or a name, or one of random weights."""
    from export_parity import MODELS, Task, make_model

    if options.model in MODELS:
        return make_model(Task(options.model, options.decoder, options.input, options.short_side, ()))
    from unip.segmentation.storage import load_segmenter

    return load_segmenter(Path(options.model))


def export(segmenter: Any, options: argparse.Namespace, folder: Path) -> list[Path]:
    """Write the fp32 and the fp16 file."""
    import onnx_ir

    from unip.deployment.export.graph import trace
    from unip.deployment.export.half_precision import to_half
    from unip.deployment.export.onnx_file import save_onnx, to_onnx

    proto = onnx_ir.to_proto(to_onnx(trace(segmenter, options.input, 1)))
    spec, paths = segmenter.spec, []
    for precision in ("fp32", "fp16"):
        model = onnx_ir.from_proto(proto)
        said = ExportMetadata(
            engine="onnx", precision=precision, input=options.input, channels=1, classes=spec.classes,
            conversion=spec.conversion, images=spec.images, short_side=spec.short_side, crop=spec.crop,
            patch=segmenter.patch, longest=4 * spec.short_side, model=str(options.model),
        )  # fmt: skip
        paths.append(folder / f"{Path(options.model).name}-{precision}-{options.input}.onnx")
        save_onnx(to_half(model) if precision == "fp16" else model, paths[-1], {KEY: said.as_json()})
    return paths


def frames_of(options: argparse.Namespace, segmenter: Any) -> list[Any]:
    """Read frames of the type that the graph takes, or make some."""
    from export_parity import make_frame

    if not options.frames:
        return [make_frame(shape, options.input, seed) for seed, shape in enumerate(SHAPES)]
    from unip.data.images.conversion import grey8
    from unip.data.images.decoding import is_grey, read_samples
    from unip.data.images.files import list_images

    paths = list_images(options.frames)
    count = min(len(paths), options.count)
    chosen = [paths[number * len(paths) // count] for number in range(count)]
    samples = [read_samples(path, segmenter.spec.conversion) for path in chosen]
    if options.input == "uint8":  # grey pictures are often stored in three equal channels
        samples = [grey8(each) if each.ndim == 3 and is_grey(each) else each for each in samples]
    return [np.ascontiguousarray(each, options.input) for each in samples]


def table_of(found: list[Measured], torch_times: dict[str, list[float]]) -> Table:
    """Return the table of all files."""
    table = Table("", "least same", "mean same", "logits / spread", "ms p50", "ms p99", "not on the GPU", "")
    for each in found:
        shares = [f"{100 * value:.3f} %" for value in (min(each.same), float(np.mean(each.same)))]
        difference = f"{max(each.difference):.1e}" if each.difference else ""
        times = [f"{np.percentile(each.latency_ms, p):.1f}" for p in (50, 99)]
        calls = sum(count for run in each.ran_on.values() for where, count in run.items() if where != PROVIDER)
        away = f"{calls} calls, {sum(each.elsewhere_ms.values()):.1f} ms"
        table.add_row(Path(each.file).name, *shares, difference, *times, away, "FAIL" if each.problems else "")
    for name, times_ms in torch_times.items():
        table.add_row(name, "", "", "", *(f"{np.percentile(times_ms, p):.1f}" for p in (50, 99)), "", "")
    return table


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="A folder, a name of `unip models`, or a model of export_parity.py.")
    parser.add_argument("--files", type=Path, nargs="+", default=[], help="Exported files; none: made from the model.")
    parser.add_argument("--frames", type=Path, help="A folder of frames; none: made ones.")
    parser.add_argument("--count", type=int, default=16, help="Of these, evenly spread.")
    parser.add_argument("--input", choices=("uint8", "int32", "float32"), default="uint8")
    parser.add_argument("--decoder", default="light")
    parser.add_argument("--short-side", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the program itself.")
    parser.add_argument("--export-only", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, help="All that was measured, as JSON.")
    options = parser.parse_args()
    if not options.model and not options.files:
        parser.error("give --model, --files or both")
    return options


def main() -> None:
    """Measure all files, and print the tables."""
    options = parse()
    if options.device == "cuda" and options.export_only is None:
        import torch  # its CUDA libraries are those that onnxruntime takes

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    segmenter = load_model(options) if options.model else None
    if options.export_only is not None:
        options.export_only.mkdir(parents=True, exist_ok=True)
        print(*export(segmenter, options, options.export_only), sep="\n")
        return
    torch_times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = options.files or export(segmenter, options, Path(folder))
        if segmenter is not None:
            frames = frames_of(options, segmenter)
            expected = torch_outputs(segmenter, frames)
        found = []
        for path in paths:
            if segmenter is None:
                held = open_session(path, "cpu", None).get_modelmeta().custom_metadata_map
                golden = unpack_golden(held.get(GOLDEN_KEY))
                frames, expected = [each.frame for each in golden], [(each.ids, None) for each in golden]
            found.append(measure(path, frames, expected, options))
        if segmenter is not None and options.device == "cuda":
            torch_times = torch_latency(segmenter, frames, options.repeats)
    console = Console(width=140)
    console.print(table_of(found, torch_times))
    for each in found:
        console.print(f"{each.file}: providers {each.providers}; not on the GPU: {each.elsewhere_ms}")
        console.print(each.types)
    if options.out is not None:
        record = {"files": [asdict(each) for each in found], "torch_ms": torch_times}
        options.out.write_text(json.dumps(record, indent=1))
    problems = [f"{each.file}: {problem}" for each in found for problem in each.problems]
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
