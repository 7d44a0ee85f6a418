"""Whole runs of `unip pretrain` on GPUs.

    python benchmarks/pretrain_run.py whole --data PACKED [--gpus 2]
    python benchmarks/pretrain_run.py curves --data PACKED --teacher timm:deit_tiny_patch16_224@FILE

`whole` trains unip_small from a ViT-L of random weights (layer 18, 256 crops of 224 px a GPU) on a packed set, for each
number of GPUs up to --gpus, and prints the rate of the run, of its feed alone, and the time spent waiting for the feed.
`curves` distils one teacher three times from the same seed: with the fused loss, with the plain one, and with a float8
teacher; it prints the losses side by side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import timm
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

import unip
from unip.pretraining import attention_distillation
from unip.pretraining.chunked_loss import plain_attention_kl

UNIP = [sys.executable, "-c", "from unip.cli import main; main()"]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python", "--nproc-per-node"]


def read_log(run: Path) -> list[dict[str, float]]:
    """Return the lines of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def whole(data: str, gpus: int, precisions: list[str], steps: int, folder: Path) -> Table:
    """Run with each number of GPUs."""
    torch.manual_seed(0)
    teacher = folder / "vit_large.safetensors"
    save_file(timm.create_model("vit_large_patch16_224", num_classes=0).state_dict(), teacher)
    table = Table("GPUs", "teacher", "images/s", "speed", "feed alone", "waiting for it")
    first = None
    for count in dict.fromkeys((1, gpus)):
        for precision in precisions:
            run = folder / f"run-{count}-{precision}"
            launch = [] if count == 1 else [*LAUNCH, str(count)]
            command = ["pretrain", "--teacher", f"timm:vit_large_patch16_224@{teacher}", "--teacher-layer", "18"]
            command += [
                "--data",
                data,
                "--cache",
                "none",
                "--student",
                "unip_small",
                "--batch-size",
                str(256 * count),
                "--lr",
                "1e-4",
            ]
            command += ["--teacher-precision", precision, "--teacher-tolerance", "0.5", "--steps", str(steps)]
            command += ["--log-every", "25", "--picture-every", "0", "--checkpoint-every", "100000", "--out", str(run)]
            subprocess.run([*launch, *UNIP, *command], check=True)
            lines = read_log(run)[len(read_log(run)) // 3 :]
            rate, feed, wait = (
                statistics.median(line[name] for line in lines)
                for name in ("samples_per_second", "feed_samples_per_second", "feed_wait")
            )
            first = first or rate
            print(json.dumps(lines[-1]), flush=True)
            table.add_row(str(count), precision, f"{rate:.0f}", f"{rate / first:.2f} x", f"{feed:.0f}/s", f"{wait:.1%}")
    return table


def curves(data: str, teacher: str, steps: int, folder: Path) -> Table:
    """Distil one teacher with each loss."""
    fused = attention_distillation.attention_kl
    runs = {"fused": (fused, "auto"), "plain": (plain_attention_kl, "auto"), "fused, fp8 teacher": (fused, "fp8")}
    table = Table("step", *runs)
    logs = []
    for name, (loss, precision) in runs.items():
        attention_distillation.attention_kl = loss
        unip.pretrain(
            teacher=teacher,
            teacher_layer=6,
            teacher_precision=precision,
            teacher_tolerance=0.1,
            data=(data,),
            student="unip_tiny",
            batch_size=512,
            lr=1e-3,
            clip=1.0,
            steps=steps,
            log_every=20,
            picture_every=0,
            out=folder / name.replace(", ", "-").replace(" ", "-"),
        )
        torch._dynamo.reset()
        logs.append(read_log(folder / name.replace(", ", "-").replace(" ", "-")))
        print(name, *(f"{line['step']}:{line['loss']:.4f}" for line in logs[-1]), flush=True)
    attention_distillation.attention_kl = fused
    for lines in zip(*logs, strict=True):
        table.add_row(str(lines[0]["step"]), *(f"{line['loss']:.4f}" for line in lines))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["whole", "curves"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", default="timm:deit_tiny_patch16_224")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--precisions", nargs="+", default=["auto", "fp8"], help="of the teacher")
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    unip.log.show()
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "whole":
            table = whole(given.data, given.gpus, given.precisions, given.steps, Path(folder))
        else:
            table = curves(given.data, given.teacher, given.steps, Path(folder))
    table.title = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
