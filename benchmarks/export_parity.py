"""Whether exported files give the masks of the model: whole-size ViTs of random weights, 30 sizes of frames, all types.

    python benchmarks/export_parity.py --jobs 32 --out parity.jsonl
    python benchmarks/export_parity.py --models ViT-T --decoders light --inputs uint8 --cells onnx-fp32

Prints a table of model, decoder, type of frames, engine and precision: the least and mean share of pixels with the
class that the model has in torch in float32, and the largest difference of two logits in spreads (largest less least)
of the frame's logits, over all sizes. A line fails if a frame has more other pixels than its precision may (fp32 0.1 %,
others 1 %; one pixel may always differ), or an fp32 file other logits by more than 0.001. A row of each frame is first
written to --out, and what is there is not done again. Each process has one thread. Weights are random and doubled, so
that logits depend on the frame; many pixels are close calls then, more than with a trained model.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

MODELS = {
    "ViT-T": "vit_tiny_patch16_224",
    "ViT-S": "vit_small_patch16_224",
    "ViT-S/14, registers": "vit_small_patch14_reg4_dinov2",
    "ViT-S, RoPE": "vit_small_patch16_dinov3",
}
DECODERS = ("light", "upernet", "linear", "conv")
INPUTS = ("uint8", "int32", "float32")
CELLS = ("onnx-fp32", "onnx-fp16", "openvino-fp32", "openvino-bf16", "torch-fp32", "torch-bf16")
NEEDED = {"fp32": 0.999, "fp16": 0.99, "bf16": 0.99}
LARGEST = 1e-3  # difference of logits, fp32
#: Height and width in pixels: tiny and odd ones, wide and tall ones, whole patches and those of cameras.
SIZES = (
    (1, 2), (2, 1), (3, 5), (7, 7), (14, 28), (15, 17), (16, 16), (31, 33), (32, 33), (37, 53),
    (40, 100), (100, 40), (60, 80), (120, 160), (113, 97), (128, 97), (150, 200), (206, 156), (192, 256), (240, 320),
    (256, 320), (224, 224), (288, 384), (385, 289), (480, 640), (511, 639), (512, 512), (512, 640), (513, 641),
    (768, 1024),
)  # fmt: skip


class Task(NamedTuple):
    """A graph: the files of all its cells come from it."""

    model: str
    decoder: str
    input: str
    short_side: int
    cells: tuple[str, ...]


def make_model(task: Task) -> Any:
    """Return a segmenter of random weights whose logits depend on the frame."""
    import torch

    from unip.data.labelled.classes import Classes
    from unip.segmentation.model import Segmenter, SegmenterSpec, default_channels, default_layers
    from unip.vit.architecture import BackboneSpec
    from unip.vit.spec import build_backbone

    torch.manual_seed(0)
    backbone = BackboneSpec(timm_name=MODELS[task.model])
    built = build_backbone(backbone)
    decoder: Any = task.decoder
    segmenter = Segmenter(
        SegmenterSpec(
            backbone=backbone,
            classes=Classes(("background", "person", "car", "bicycle")),
            decoder=decoder,
            layers=default_layers(decoder, "llfpn", len(built.blocks)),
            channels=default_channels(decoder, built.embed_dim),
            mean=(0.4, 0.4, 0.4),
            std=(0.2, 0.2, 0.2),
            short_side=task.short_side,
            crop=512,
        )
    ).eval()
    with torch.no_grad():
        for parameter in segmenter.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    return segmenter


def make_frame(size: tuple[int, int], kind: str, seed: int) -> Any:
    """Return a frame ``(H, W)`` with contrast, noise and something hot."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    scene = 30 * np.sin(x / 9 + seed) + 20 * np.cos(y / 7) + rng.normal(0, 3, size)
    scene += 60 * ((x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(size) / 4) ** 2)
    return {"uint8": np.clip(scene + 100, 0, 255), "int32": 7000 + 9 * scene, "float32": 300 + scene / 10}[kind].astype(
        kind
    )


def open_cell(cell: str, segmenter: Any, task: Task, proto: Any, folder: Path) -> Any:
    """Export a cell; return a function from a frame to ids and logits, on one thread."""
    import onnx_ir
    import torch

    from unip.deployment.export.graph import trace
    from unip.deployment.export.half_precision import to_half
    from unip.deployment.export.metadata import INPUT_NAME
    from unip.deployment.export.onnx_file import save_onnx
    from unip.deployment.export.openvino_file import save_openvino
    from unip.deployment.export.telemetry import import_silent

    engine, precision = cell.split("-")
    kind: Any = task.input
    if engine == "torch":
        module = trace(segmenter, kind, 1, bfloat16=precision == "bf16").module()
        return lambda frame: [each.detach().numpy() for each in module(torch.from_numpy(frame))][::2]
    model = onnx_ir.from_proto(proto)
    path = folder / f"{cell}.onnx"
    save_onnx(to_half(model) if precision == "fp16" else model, path, {})
    if engine == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda frame: session.run(["ids", "logits"], {INPUT_NAME: frame})
    xml: Any = path.with_suffix(".xml")
    save_openvino(path, xml, {}, "bf16" if precision == "bf16" else "fp32")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = import_silent("openvino").Core().compile_model(xml, "CPU", settings).create_infer_request()

    def run(frame: Any) -> list[Any]:
        found = request.infer({INPUT_NAME: frame})
        return [found["ids"].copy(), found["logits"].copy()]

    return run


def run_task(task: Task) -> list[dict[str, Any]]:
    """Compare all files of a graph with the model; return a row for each frame and file."""
    import onnx_ir
    import torch

    from unip.deployment.export.graph import trace
    from unip.deployment.export.onnx_file import to_onnx
    from unip.deployment.export.reference import reference_logits

    torch.set_num_threads(1)
    segmenter = make_model(task)
    kind: Any = task.input
    proto = onnx_ir.to_proto(to_onnx(trace(segmenter, kind, 1))) if any("torch" not in c for c in task.cells) else None
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        runs = {cell: open_cell(cell, segmenter, task, proto, Path(folder)) for cell in task.cells}
        for seed, size in enumerate(SIZES):
            frame = make_frame(size, task.input, seed)
            expected = reference_logits(segmenter, frame).numpy()
            spread = float(expected.max() - expected.min())
            for cell, run in runs.items():
                start = time.process_time()
                ids, logits = run(frame)
                seconds = time.process_time() - start
                same = float((ids == expected.argmax(0)).mean())
                difference = float(np.abs(logits - expected).max()) / spread
                rows.append(
                    {**task._asdict(), "cells": None, "cell": cell, "size": size, "same": same,
                     "difference": difference, "cpu_seconds": seconds}
                )  # fmt: skip
    return rows


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a line of the table is about."""
    return row["model"], row["decoder"], row["input"], row["short_side"], row["cell"]


def area(row: dict[str, Any]) -> int:
    """Return the pixels of a row's frame."""
    return int(np.prod(row["size"]))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of earlier runs."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tasks_of(options: argparse.Namespace, done: set[tuple[Any, ...]]) -> Iterator[Task]:
    """Yield the graphs of which files are missing, the slow ones first."""
    for model in sorted(options.models, key=lambda name: name == "ViT-T"):
        for decoder in options.decoders:
            for kind in options.inputs:
                left = [c for c in options.cells if (model, decoder, kind, options.short_side, c) not in done]
                if left:
                    yield Task(model, decoder, kind, options.short_side, tuple(left))


def table_of(rows: list[dict[str, Any]]) -> tuple[Table, list[str]]:
    """Return the table, and which of its lines fail."""
    table = Table("model", "decoder", "frames", "file", "least same", "mean same", "logits / spread", "CPU s", "")
    grouped = defaultdict(list)
    for row in rows:
        grouped[key_of(row)].append(row)
    failed = []
    for key, found in sorted(grouped.items()):
        model, decoder, kind, _, cell = key
        precision = cell.split("-")[1]
        same, difference = [row["same"] for row in found], max(row["difference"] for row in found)
        many = any((1 - row["same"]) * area(row) > max(1.5, (1 - NEEDED[precision]) * area(row)) for row in found)
        bad = many or (precision == "fp32" and difference > LARGEST) or len(found) < len(SIZES)
        if bad:
            failed.append(f"{model}, {decoder}, {kind}, {cell}")
        seconds = float(np.median([row["cpu_seconds"] for row in found]))
        shares = [f"{100 * share:.3f} %" for share in (min(same), float(np.mean(same)))]
        table.add_row(model, decoder, kind, cell, *shares, f"{difference:.1e}", f"{seconds:.2f}", "FAIL" if bad else "")
    return table, failed


def main() -> None:
    """Do what is missing, and print the table; exit code 1 if a line fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--decoders", nargs="+", choices=DECODERS, default=list(DECODERS))
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=list(INPUTS))
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS[:4]))
    parser.add_argument("--short-side", type=int, default=512)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("export-parity.jsonl"))
    options = parser.parse_args()
    tasks = list(tasks_of(options, {key_of(row) for row in read_rows(options.out)}))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context) as pool:
        waiting = {pool.submit(run_task, task): task for task in tasks}
        for number, each in enumerate(as_completed(waiting), 1):
            with options.out.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in each.result())
            print(f"{number} of {len(tasks)}: {', '.join(map(str, waiting[each][:3]))}", flush=True)
    table, failed = table_of(read_rows(options.out))
    Console(width=140).print(table)
    if failed:
        sys.exit("not as the model: " + "; ".join(failed))


if __name__ == "__main__":
    main()
