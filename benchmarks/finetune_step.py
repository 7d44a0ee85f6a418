"""What a step of fine-tuning takes on one GPU, beside an older version: ViT-Tiny, 8 crops of 512 px, synthetic frames.

    python benchmarks/finetune_step.py --old OLDER_CHECKOUT --out finetune-step.json

Both ways start from the same weights and see the same crops, in processes of their own, without dropout. Printed are
crops/s with all that a run does, the seconds to the first step (with an empty cache of compiled kernels, and with a
kept one), the kernels of a step in groups, what the GPU could do it in, and how far the losses are apart.
Older checkouts run with --compile graphs or what --old-compile says, this one with compiled-graphs or what --compile
says; with --variant once more, with other settings of torch's compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

import unip
from finetune_model import MODEL, make_model
from unip.data.synthetic.materials import SCENE_CLASSES
from unip.training.optim import count_parameters

HERE = Path(__file__).resolve().parent
BATCH, CROP = 8, 512
CURVE = 100  # steps
TIMED = 200  # the steps from CURVE to this one
PROFILED = 10
LEAST_S = 16  # for a run
RUNS = ("new", "cached", "old", "variant")
#: Dense bfloat16 products in TFLOP/s and memory in TB/s, of the vendor's data sheets.
PEAKS = {"H200": (989.0, 4.8), "H100": (989.0, 3.35), "A100": (312.0, 2.0)}
#: What a kernel is for, by its name; the first that fits.
GROUPS = {
    "attention": "flash|fmha|sdpa|attention",
    "convolution": "fprop|dgrad|wgrad|implicit|conv(?!ert)|cudnn",
    "products": "gemm|nvjet|cutlass|cublas|triton_.*_mm|splitk",
    "optimiser": "adam|multi_tensor|foreach",
    "loss, upsampling": "upsample|nll|softmax|argmax|arg_max",
    "norms": "norm",
    "copies": "memcpy|memset|copy|cat_?array|nchwtonhwc|nhwctonchw",
    "sums": "reduce|triton_red|triton_per",
    "elementwise": "elementwise|triton_poi",
}


def group_of(kernel: str) -> str:
    """Return what a kernel is for."""
    return next((group for group, words in GROUPS.items() if re.search(words, kernel, re.IGNORECASE)), "other")


class Runs:
    """Starts runs one after the other within the time, and keeps what they found in a file."""

    def __init__(self, folder: Path, data: Path, options: argparse.Namespace) -> None:
        self.folder, self.data, self.out, self.limit = folder, data, options.out.resolve(), options.limit
        self.steps = options.steps
        self.begun = time.monotonic()
        self.found: dict[str, dict[str, Any]] = {}

    def run(
        self,
        name: str,
        source: Path,
        decoder: str,
        compiled: str,
        cache: Path,
        *,
        first_only: bool = False,
        inductor: dict[str, Any] | None = None,
    ) -> None:
        """Run once; what it found is kept under ``name``, or nothing if the time is up or it fails."""
        left = self.limit - (time.monotonic() - self.begun)
        if left < LEAST_S:
            print(f"{name}: left out, the time is up", flush=True)
            return
        settings = {
            **{"model": MODEL, "data": str(self.data), "decoder": decoder, "recipe": "fast", "mode": "full"},
            **{"batch_size": BATCH, "crop": CROP, "steps": self.steps + PROFILED + 2, "ema": 0.995, "val_share": 0},
            **{"loss": "ce+dice", "compile": compiled, "log_every": 50, "tensorboard": False, "device": "cuda"},
            **{"out": str(self.folder / name)},
        }
        if first_only:
            settings["steps"] = 2
        given, result = self.folder / f"{name}.in.json", self.folder / f"{name}.json"
        facts = {"settings": settings, "timed": (CURVE, self.steps), "profiled": PROFILED, "result": str(result)}
        facts |= {"inductor": inductor or {}}
        given.write_text(json.dumps(facts | {"started": time.time()}))
        environment = os.environ | {"PYTHONPATH": str(source / "src"), "TORCHINDUCTOR_CACHE_DIR": str(cache)}
        command = [sys.executable, str(HERE / "finetune_step_run.py"), str(given)]
        try:
            done = subprocess.run(command, env=environment, timeout=left, capture_output=True, text=True, check=False)
        except subprocess.TimeoutExpired:
            print(f"{name}: left out, the time is up", flush=True)
            return
        if done.returncode:
            print(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}", flush=True)
            if not result.exists():
                return
        self.found[name] = json.loads(result.read_text())
        if Path(self.found[name]["unip"]).parent != source / "src":
            sys.exit(f"{name} ran {self.found[name]['unip']}, not {source}")
        self.keep()
        brief = {key: round(value, 2) for key, value in self.found[name].items() if isinstance(value, float)}
        print(f"{name}: {brief}", flush=True)

    def keep(self) -> None:
        """Write down all that was found so far."""
        self.out.write_text(json.dumps(self.found, indent=1))


def floor_of(decoder: str) -> dict[str, float]:
    """Return what a step cannot do without: products, in TFLOP, and bytes, kept for the backward pass and updated."""
    model = make_model(decoder, SCENE_CLASSES).cuda()
    images = torch.zeros(BATCH, 3, CROP, CROP, dtype=torch.uint8, device="cuda")
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autocast("cuda", torch.bfloat16):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(images, images[:, 0])["loss"]
        loss.backward()
    # the update reads and writes weights, both moments and the average, and reads what the backward pass wrote
    updated = 4 * count_parameters(p for p in model.parameters() if p.requires_grad) * (4 * 2 + 2)
    return {
        "tflop": counter.get_total_flops() / 1e12,
        "kept_gb": 2 * sum(kept.values()) / 1e9,
        "updated_gb": updated / 1e9,
    }


def step_table(found: dict[str, dict[str, Any]], floors: dict[str, dict[str, float]]) -> Table:
    """Return a step of each run in groups of kernels, in ms."""
    names = [name for name in found if "kernels" in found[name]]
    table = Table("ms of a step", *names)
    for group in [*GROUPS, "other"]:
        cells = []
        for name in names:
            times = [(ms, count) for kernel, (ms, count) in found[name]["kernels"] if group_of(kernel) == group]
            cells.append(f"{sum(ms for ms, _ in times):.2f} ({sum(count for _, count in times):.0f})")
        table.add_row(f"{group} (kernels)", *cells)
    for row in ("busy_ms", "idle_ms"):
        table.add_row(f"GPU {row.removesuffix('_ms')}", *[f"{found[name][row]:.2f}" for name in names])
    table.add_row("step", *[f"{found[name]['step_ms']:.2f}" for name in names])
    peak = next((peak for gpu, peak in PEAKS.items() if names and gpu in found[names[0]]["gpu"]), None)
    if peak is not None:
        parts = [floors[name.split("-")[0]] for name in names]
        table.add_row("floor: products at peak", *[f"{1000 * part['tflop'] / peak[0]:.2f}" for part in parts])
        moved = [part["kept_gb"] + part["updated_gb"] for part in parts]
        table.add_row("floor: bytes at bandwidth", *[f"{gb / peak[1]:.2f}" for gb in moved])
    return table


def run_table(found: dict[str, dict[str, Any]]) -> Table:
    """Return rates, the time to the first step, and the distance of the losses from the older version's."""
    table = Table(
        "run", "crops/s", "memory", "first step", "from the process's start", "loss apart, %", "of 10 steps, %"
    )
    for name, run in found.items():
        rate = f"{1000 * BATCH / run['step_ms']:.0f}" if "step_ms" in run else "-"
        memory = f"{run['memory_gib']:.2f} GiB" if "step_ms" in run else "-"
        old = found.get(f"{name.split('-')[0]}-old")
        single = tens = "-"
        if old and old is not run and len(run["losses"]) >= CURVE:
            ours, theirs = (torch.tensor(each["losses"][:CURVE]) for each in (run, old))
            single = f"{100 * ((ours - theirs).abs() / theirs).max():.2f}"
            ours, theirs = (each.view(-1, 10).mean(1) for each in (ours, theirs))
            tens = f"{100 * ((ours - theirs).abs() / theirs).max():.2f}"
        table.add_row(name, rate, memory, f"{run['first_step_s']:.1f} s", f"{run['from_start_s']:.1f} s", single, tens)
    return table


def main() -> None:
    """Run all ways, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="an older checkout")
    parser.add_argument("--out", type=Path, default=Path("finetune-step.json"), help="for all that was measured")
    parser.add_argument("--decoders", nargs="+", default=["light", "upernet"])
    parser.add_argument("--compile", choices=["graphs", "compiled-graphs"], default="compiled-graphs")
    parser.add_argument("--old-compile", choices=["graphs", "compiled-graphs"], default="graphs")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS, help="which, in their order")
    parser.add_argument("--steps", type=int, default=TIMED, help=f"timed are those from {CURVE} on")
    parser.add_argument(
        "--variant", type=json.loads, help='also with these settings of torch._inductor.config, {"NAME": VALUE}'
    )
    parser.add_argument("--data", type=Path, help="labelled frames; default: synthetic ones, made for it")
    parser.add_argument("--limit", type=float, default=235, help="seconds for all runs; later ones are left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = options.data or folder / "scenes"
        if not options.data:
            unip.data.scenes(out=data, count=64, size=(512, 640), splits=(1.0, 0.0, 0.0))
        runs = Runs(folder, data.resolve(), options)
        for decoder, kind in product(options.decoders, options.runs):
            name, cache = f"{decoder}-{kind}", folder / f"cache-{decoder}"
            if kind == "old" and options.old:
                unused = folder / f"unused-{decoder}"
                runs.run(name, options.old.resolve(), decoder, options.old_compile, unused)
            elif kind == "variant" and options.variant:
                unused = folder / f"variant-{decoder}"
                runs.run(name, HERE.parent, decoder, options.compile, unused, inductor=options.variant)
            elif kind == "new" or (kind == "cached" and options.compile == "compiled-graphs"):
                runs.run(name, HERE.parent, decoder, options.compile, cache, first_only=kind == "cached")
    floors = {decoder: floor_of(decoder) for decoder in options.decoders}
    runs.found["floors"] = floors
    runs.keep()
    del runs.found["floors"]
    title = f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {MODEL}, {BATCH} crops of {CROP} px"
    Console(width=150).print(title, run_table(runs.found), step_table(runs.found, floors), floors)


if __name__ == "__main__":
    main()
