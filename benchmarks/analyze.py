"""Memory and time of measuring a large ViT: one layer's maps at a time, beside keeping all maps.

    python benchmarks/analyze.py                # ViT-L/16, random weights, 224 px, 100 images, every device
    python benchmarks/analyze.py --devices cpu --images 20

Each way runs in a process of its own. Peak memory is what comes on top of the loaded model and the images: resident
memory on the CPU, allocated device memory on a GPU. Both ways give the same measures; the table says how far apart.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import timm
import torch
from rich.console import Console
from rich.table import Table

from unip.attention.feature_measures import cka, high_frequency_amplitude, token_gram
from unip.attention.measuring import MEASURES, measure_layers, measure_maps
from unip.vit.shape import class_tokens, patch_size, prefix_tokens

WAYS = {"one": "one layer at a time", "all": "all maps kept"}


def keep_all_maps(model: torch.nn.Module, batches: list[torch.Tensor]) -> dict[str, float]:
    """The plain way: unfused attention, every map and feature of every layer kept, measured at the end."""
    prefix, classes = prefix_tokens(model), class_tokens(model)
    maps: list[list[torch.Tensor]] = [[] for _ in model.blocks]
    features: list[list[torch.Tensor]] = [[] for _ in model.blocks]
    for layer, block in enumerate(model.blocks):
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, i, o, layer=layer: maps[layer].append(o))
        block.register_forward_hook(lambda m, i, o, layer=layer: features[layer].append(o[:, prefix:]))
    device = next(model.parameters()).device
    grid = (batches[0].shape[-1] // patch_size(model),) * 2
    with torch.inference_mode():
        for images in batches:
            model.forward_features(images.to(device))
        found: dict[str, list[torch.Tensor]] = {name: [] for name in [*MEASURES, "cka"]}
        for kept, tokens in zip(maps, features, strict=True):
            for attention, patches in zip(kept, tokens, strict=True):
                for name, values in measure_maps(attention.log(), grid, classes, prefix - classes).items():
                    found[name].append(values.flatten())
                found["high_frequency"].append(high_frequency_amplitude(patches.mT.reshape(len(patches), -1, *grid)))
        for number in range(len(batches)):
            maps_of = [tokens[number].mT.reshape(len(batches[number]), -1, *grid) for tokens in features]
            grams = torch.stack([token_gram(layer) for layer in maps_of], dim=1)
            found["cka"].append(cka(grams).flatten())
    return {name: torch.cat(values).nanmean().item() for name, values in found.items()}


def one_layer_at_a_time(model: torch.nn.Module, batches: list[torch.Tensor]) -> dict[str, float]:
    """What `unip analyze` does."""
    measured = measure_layers(model, batches)
    layers = [{**layer.heads, **layer.features} for layer in measured.layers.values()]
    found = {name: torch.cat([layer[name].flatten() for layer in layers]).nanmean().item() for name in MEASURES}
    return {**found, "cka": measured.cka.mean().item()}


def resident() -> int:
    """Resident memory of this process in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Notes the largest resident memory from now on, every few milliseconds."""

    def __init__(self) -> None:
        self._largest, self._over = resident(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self._largest = max(self._largest, resident())

    def stop(self) -> int:
        """Return the largest memory seen."""
        self._over.set()
        self._thread.join()
        return max(self._largest, resident())


def run(way: str, device: str, images: int, model_name: str, batch: int) -> dict[str, Any]:
    """Measure two images to warm up, then all; return seconds, peak bytes and the measures."""
    torch.manual_seed(0)
    model = timm.create_model(model_name, num_classes=0).eval().to(device)
    generator = torch.Generator().manual_seed(0)
    batches = list(torch.randn(images, 3, 224, 224, generator=generator).split(batch))
    measure = one_layer_at_a_time if way == "one" else keep_all_maps
    cuda = device == "cuda"
    one_layer_at_a_time(model, [batches[0][:2]])  # libraries load and allocate on first use
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else resident()
    watch = Watch()
    begun = time.perf_counter()
    measures = measure(model, batches)
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    peak = torch.cuda.max_memory_allocated() if cuda else watch.stop()
    return {"seconds": seconds, "bytes": peak - before, "measures": measures}


def main() -> None:
    """Run every way on every device and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--model", default="vit_large_patch16_224")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--devices", nargs="+", default=["cpu", *["cuda"] * torch.cuda.is_available()])
    parser.add_argument("--way", choices=WAYS, help="run one way in this process and print JSON")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(run(options.way, options.devices[0], options.images, options.model, options.batch)))
        return
    table = Table(title=f"{options.model}, 224 px, {options.images} images, batches of {options.batch}")
    for heading in ("device", "way", "peak MiB", "ratio", "seconds", "ratio", "largest difference of a mean"):
        table.add_column(heading, justify="left" if heading in ("device", "way") else "right")
    for device in options.devices:
        found = {}
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--devices", device, "--images", str(options.images)]
            command += ["--model", options.model, "--batch", str(options.batch)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[way] = json.loads(done.stdout.splitlines()[-1])
        ours = found["one"]
        name = torch.cuda.get_device_name() if device == "cuda" else device
        for way, title in WAYS.items():
            result = found[way]
            apart = max(abs(result["measures"][key] - v) for key, v in ours["measures"].items() if math.isfinite(v))
            table.add_row(
                name,
                title,
                f"{result['bytes'] / 2**20:,.0f}",
                f"{result['bytes'] / ours['bytes']:.1f}",
                f"{result['seconds']:.1f}",
                f"{result['seconds'] / ours['seconds']:.2f}",
                f"{apart:.1e}",
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
