"""One fine-tuning in a process of its own, watched step by step: what `benchmarks/finetune_step.py` starts.

It uses nothing of unip but `unip.finetune` and the loop's method that does a step, so that it can watch older versions
too. Its only argument is a file with the settings, its result is another.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch._inductor import config as inductor
from torch.profiler import ProfilerActivity, profile

import unip
from unip.training.loop import _Loop


class Watch:
    """Notes the loss of every step, and the time of some; stands in the place of the loop's method."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.done, self.losses = given, 0, []
        self.found: dict[str, Any] = {}
        self.one_step = _Loop._one_step
        self.profile = profile(activities=[ProfilerActivity.CUDA])

    def step(self, loop: _Loop, feed: Any) -> dict[str, torch.Tensor]:
        """Do a step, and measure what is due before and after it."""
        self.before()
        begun = time.time()
        values = self.one_step(loop, feed)
        self.done += 1
        self.losses.append(values["loss"].clone())
        if self.done == 1:
            torch.cuda.synchronize()
            self.found["first_step_s"] = time.time() - begun
            self.found["from_start_s"] = time.time() - self.given["started"]
        return values

    def before(self) -> None:
        """Measure from step to step."""
        first, last = self.given["timed"]
        if self.done in (first, last):
            torch.cuda.synchronize()
            self.found[f"at_{self.done}"] = time.perf_counter()
        if self.done == last:
            seconds = self.found.pop(f"at_{last}") - self.found.pop(f"at_{first}")
            self.found["step_ms"] = 1000 * seconds / (last - first)
            self.found["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
            self.write()  # in case the profiler fails
            self.profile.start()
        if self.done == last + self.given["profiled"]:
            torch.cuda.synchronize()
            self.profile.stop()
            self.found |= kernels_of(self.profile, self.given["profiled"])

    def write(self) -> None:
        """Write down all that was found."""
        about = {"unip": str(Path(unip.__file__).parent), "torch": torch.__version__}
        about["gpu"] = torch.cuda.get_device_name()
        found = about | self.found | {"losses": torch.stack(self.losses).tolist()}
        Path(self.given["result"]).write_text(json.dumps(found))


def kernels_of(profiled: profile, steps: int) -> dict[str, Any]:
    """Return the milliseconds of a step by kernel, and how long the GPU was busy and idle in one."""
    events = [event for event in profiled.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    spans = sorted((event.time_range.start, event.time_range.end) for event in events)
    busy, until = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    kernels: dict[str, list[float]] = {}
    for event in events:
        total = kernels.setdefault(event.name, [0.0, 0.0])
        total[0] += (event.time_range.end - event.time_range.start) / 1000 / steps
        total[1] += 1 / steps
    whole = (until - spans[0][0]) / 1000 / steps
    ordered = sorted(kernels.items(), key=lambda item: -item[1][0])
    return {"busy_ms": busy / 1000 / steps, "idle_ms": whole - busy / 1000 / steps, "kernels": ordered}


def main() -> None:
    """Run it."""
    given = json.loads(Path(sys.argv[1]).read_text())
    torch.nn.Dropout2d.forward = lambda module, maps: maps  # compiled kernels draw other numbers: losses would differ
    for name, value in given["inductor"].items():
        setattr(inductor, name, value)
    watch = Watch(given)
    _Loop._one_step = lambda loop, feed: watch.step(loop, feed)
    unip.finetune(**given["settings"])
    watch.write()


if __name__ == "__main__":
    main()
