"""Speed and memory of distillation on one GPU: `python benchmarks/pretrain.py [loss] [step] [large]`.

All sides run in this process, one after the other, on random weights and images; a time is the median of steps after
a warm-up, memory the peak of a step over everything that is on the device. The plain step is written as the method's
released code does it: eager, float16 autocast with a gradient scaler, both attention maps in memory, a wait each step.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial

import timm
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from unip.attention.capture import AttentionTrunk
from unip.pretraining.attention_distillation import AttentionDistillation, freeze_unused
from unip.pretraining.inputs import normalise_crops, normalise_grey
from unip.pretraining.loss import attention_kl
from unip.pretraining.speed import speed_up
from unip.pretraining.teachers import Target
from unip.pretraining.tokens import AttentionSide
from unip.training.config import TrainingConfig
from unip.training.drop_path import DropPathDecisions
from unip.training.feed import Positions
from unip.training.optim import parameter_groups
from unip.vit.spec import build_backbone
from unip.vit.student import student_spec

LAYER, HEADS = 18, 16  # of ViT-L
GIB = 2**30


def milliseconds(step: Callable[[], object], *, steps: int, warmup: int = 3) -> float:
    """Return the median time of a call on the device."""
    for _ in range(warmup):
        step()
    torch.cuda.synchronize()
    times = []
    for _ in range(steps):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        step()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)[steps // 2]


def peak(step: Callable[[], object]) -> float:
    """Return the most memory on the device during a call, GiB."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / GIB


def materialised_kl(teacher, student):
    """Compute the loss with both maps in memory, as one writes it."""
    target = ((teacher.q * teacher.scale) @ teacher.k.mT).float().softmax(-1)
    found = ((student.q * student.scale) @ student.k.mT).float().log_softmax(-1)
    return F.kl_div(found, target, reduction="sum") / found[..., 0].numel()


def loss_step(function, teacher, student):
    """Run the loss forward and backward."""
    student.q.grad = student.k.grad = None
    function(teacher, student).backward()


def compare_losses(table: Table) -> None:
    """Add forward + backward of the loss alone to the table."""
    for batch, tokens in ((256, 197), (64, 1025)):
        pairs = [
            torch.randn(batch, tokens, 2, HEADS, width, device="cuda", dtype=torch.bfloat16).permute(2, 0, 3, 1, 4)
            for width in (64, 24)
        ]
        teacher = AttentionSide(*pairs[0], 64**-0.5)
        student = AttentionSide(*(t.detach().requires_grad_() for t in pairs[1]), 24**-0.5)
        compiled = torch.compile(materialised_kl, dynamic=False)
        first = None
        for name, function in (("materialised", materialised_kl), ("compiled", compiled), ("fused", attention_kl)):
            step = partial(loss_step, function, teacher, student)
            step()
            base = torch.cuda.memory_allocated() / GIB  # queries, keys and their gradients
            time = milliseconds(step, steps=9)
            memory = f"{peak(step) - base:.3f} GiB beyond"
            first = first or time
            table.add_row(f"loss {batch} x {tokens}", name, f"{time:.2f} ms", f"{first / time:.2f} x", memory)
        torch._dynamo.reset()


class Step:
    """A whole training step on one batch, plain or ours."""

    def __init__(self, *, size: int, batch: int, plain: bool, checkpoint: bool = False, fp8: bool = False) -> None:
        torch.manual_seed(0)
        teacher = timm.create_model("vit_large_patch16_224", num_classes=0, img_size=size).cuda()
        del teacher.blocks[LAYER:]
        student = build_backbone(student_spec("unip_small", last_heads=HEADS), drop_path=0.1).cuda()
        self.images = torch.randint(0, 256, (batch, 1, size, size), dtype=torch.uint8, device="cuda")
        self.flips = torch.rand(batch, device="cuda") < 0.5
        self.plain, self.number = plain, 0
        if plain:
            self.teacher = AttentionTrunk(teacher, [LAYER]).requires_grad_(False).eval()
            self.trunk = AttentionTrunk(student, [12])
            freeze_unused(student)
            self.scaler = torch.amp.GradScaler()
        else:
            student.set_grad_checkpointing(checkpoint)
            self.model = AttentionDistillation([Target(teacher, LAYER)], student, size=size, dtype=torch.bfloat16)
            self.model.train()
            pixels = normalise_crops(self.images[:8])
            precision = "fp8" if fp8 else "auto"
            speed_up(self.model.teachers, self.model.targets, pixels, precision=precision, tolerance=0.5)
            for part in self.model.parts:
                part.compile(dynamic=False)
            positions = Positions(TrainingConfig(out="x", batch_size=batch, steps=1), start=0, rank=0, ranks=1)
            self.drops = DropPathDecisions(self.model, positions, seed=0, device=self.images.device)
        groups = parameter_groups(student, lr=1e-4, weight_decay=0.05)
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=not plain)

    def __call__(self) -> None:
        """Take one step."""
        self.number += 1
        self.optimizer.zero_grad(set_to_none=True)
        if self.plain:
            with torch.autocast("cuda", torch.float16):
                pixels = normalise_grey(self.images)
                with torch.no_grad():
                    taught = self.teacher(pixels)[LAYER]
                learnt = self.trunk(pixels)[12]
                loss = materialised_kl(
                    AttentionSide(*taught, self.teacher.scale[LAYER]), AttentionSide(*learnt, self.trunk.scale[12])
                )
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            loss.item()
            return
        self.drops.draw(self.number)
        self.drops.load(0)
        with torch.autocast("cuda", torch.bfloat16):
            loss = self.model(self.images, self.flips)["loss"]
        loss.backward()
        self.optimizer.step()


def compare_steps(table: Table, *, size: int, batch: int) -> None:
    """Add whole steps to the table."""
    first = None
    sides = {
        "plain": {"plain": True},
        "ours, bf16": {"plain": False},
        "ours, fp8 teacher": {"plain": False, "fp8": True},
        "ours, bf16, activation checkpointing": {"plain": False, "checkpoint": True},
    }
    for name, options in sides.items():
        step = Step(size=size, batch=batch, **options)
        time = milliseconds(step, steps=15)
        memory = peak(step)
        first = first or time
        rate = f"{time:.1f} ms = {batch / time * 1000:.0f} images/s"
        table.add_row(f"step {batch} x {size} px", name, rate, f"{first / time:.2f} x", f"{memory:.2f} GiB")
        del step
        torch._dynamo.reset()


def main() -> None:
    wanted = sys.argv[1:] or ["loss", "step", "large"]
    torch.set_float32_matmul_precision("high")
    title = f"{torch.cuda.get_device_name()}, torch {torch.__version__}: ViT-L, layer {LAYER}, into unip_small"
    table = Table("what", "how", "time", "speed", "memory", title=title)
    if "loss" in wanted:
        compare_losses(table)
    if "step" in wanted:
        compare_steps(table, size=224, batch=256)
    if "large" in wanted:
        compare_steps(table, size=512, batch=64)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
