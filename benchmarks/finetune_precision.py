"""Fine-tuning on the CPU in bfloat16 beside float32: `python benchmarks/finetune_precision.py [--threads 1]`.

ViT-Tiny with each decoder, 4 made-up crops of 256 px, the same weights; the steps of both precisions take turns, so
that other work on the machine slows both. Printed are the median CPU seconds of a step, and how far the losses are
apart.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table

from finetune_model import make_model
from unip.runtime.device import native_bfloat16

CLASSES = ("a", "b", "c", "d", "e")


class Training:
    """A model of random weights and its optimiser."""

    def __init__(self, decoder: str, *, bf16: bool) -> None:
        torch.manual_seed(0)
        self.model = make_model(decoder, CLASSES)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=4e-4, weight_decay=0.05)
        self.bf16, self.seconds, self.losses = bf16, [], []

    def step(self, seed: int, images: torch.Tensor, masks: torch.Tensor) -> None:
        """Take a step."""
        torch.manual_seed(seed)  # of dropout
        begun = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.model(images, masks)["loss"]
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.seconds.append(time.process_time() - begun)
        self.losses.append(loss.item())


def some_crops() -> tuple[torch.Tensor, torch.Tensor]:
    """Return crops in whose squares of 32 px a class has its own grey, with noise."""
    generator = torch.Generator().manual_seed(0)
    squares = torch.randint(0, len(CLASSES), (4, 8, 8), generator=generator)
    masks = squares.repeat_interleave(32, 1).repeat_interleave(32, 2).byte()
    noise = torch.randint(0, 40, (4, 1, 256, 256), generator=generator).byte()
    return (40 * masks[:, None] + noise).expand(-1, 3, -1, -1), masks


def main() -> None:
    """Train both ways with each decoder, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = Table("decoder", "float32", "bfloat16", "ratio", "losses apart, at most")
    for decoder in ("light", "upernet"):
        plain, half = (Training(decoder, bf16=bf16) for bf16 in (False, True))
        for seed in range(options.steps):
            for training in (plain, half):
                training.step(seed, *some_crops())
        ours, theirs = (statistics.median(training.seconds[2:]) for training in (half, plain))
        apart = max(abs(a - b) / b for a, b in zip(half.losses, plain.losses, strict=True))
        table.add_row(decoder, f"{theirs:.2f} s", f"{ours:.2f} s", f"{theirs / ours:.2f}", f"{apart:.2%}")
    print(f"this processor is fast in bfloat16 by: {native_bfloat16() or 'nothing'}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
