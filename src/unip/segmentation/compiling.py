"""Whether the step of a fine-tuning is compiled. This belongs to the machine, not to the run."""

from __future__ import annotations

from typing import Any

import torch

from unip.runtime.compiling import was_compiled
from unip.segmentation.config import FinetuneConfig, ResolvedConfig
from unip.segmentation.defaults import TaskFacts
from unip.version import __version__
from unip.vit.architecture import BackboneSpec

#: Steps from which compiling saves more time than it takes, with the smallest model, on an H200 (docs/lab-notes.md).
NEW_KERNELS_STEPS = 5000  # 25 s once, 5 ms a step
KEPT_KERNELS_STEPS = 800  # 3.4 s
#: The settings that make other kernels.
SETTINGS = (
    *("decoder", "pyramid", "layers", "channels", "auxiliary_weight", "last_heads", "crop", "batch_size", "accumulate"),
    *("mode", "freeze_layers", "drop_path", "loss", "class_weights", "hard_pixels", "precision"),
)


def kernels_of(config: ResolvedConfig, backbone: BackboneSpec, classes: int, device: torch.device) -> dict[str, str]:
    """Return what the compiled kernels of a fine-tuning depend on, by name; without a GPU nothing."""
    if device.type != "cuda":
        return {}
    return {
        **{"unip": __version__, "torch": torch.__version__, "gpu": torch.cuda.get_device_name(device)},
        **{"backbone": backbone.model_dump_json(), "classes": str(classes)},
        **{name: str(getattr(config, name)) for name in SETTINGS},
    }


def choose_compile(config: FinetuneConfig, facts: TaskFacts, kernels: dict[str, str]) -> tuple[Any, str]:
    """Choose whether the step is compiled, or captured as a CUDA graph.

    Args:
        config: The settings, everything else chosen.
        facts: What to choose from.
        kernels: What they depend on, of :func:`kernels_of`.

    Returns:
        The value of ``compile``, and the reason.
    """
    possible = facts.on_gpu and facts.ranks == 1 and facts.capturable and not config.checkpoint_activations
    if config.compile != "auto" or config.recipe == "paper" or not possible:
        return config.compile, "as given"
    if config.cache_features:
        return False, "a decoder is quick enough"
    if config.steps < KEPT_KERNELS_STEPS:
        return "graphs", f"ready at once, for one GPU; compiling pays off from {KEPT_KERNELS_STEPS} steps on"
    if config.lora is not None:
        return "graphs", "ready at once, for one GPU; blocks with adapters would be compiled one by one"
    if facts.not_compilable:
        return "graphs", f"for one GPU; compiled kernels would be faster, but {facts.not_compilable}"
    if was_compiled(kernels):
        return "compiled-graphs", "fastest on one GPU; such kernels were compiled here before, and are kept"
    if config.steps < NEW_KERNELS_STEPS:
        return "graphs", (
            "ready at once, for one GPU; compiling takes half a minute, and pays off from "
            f"{NEW_KERNELS_STEPS:,} steps on. For several such runs, give the first --compile compiled-graphs: "
            "the others then take its kernels"
        )
    return "compiled-graphs", "fastest on one GPU; the first step takes half a minute"
