"""Parameter groups: no weight decay on biases, norms and tokens; learning rates that shrink towards the input."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

_NEVER_DECAYED = ("pos_embed", "cls_token", "reg_token", "mask_token")


def layer_of(name: str, depth: int) -> int:
    """Return the layer a backbone parameter belongs to: 0 embedding, 1..depth blocks, depth + 1 all else.

    Args:
        name: Parameter name within the backbone, timm's naming (``blocks.3.attn.qkv.weight``).
        depth: Number of blocks.
    """
    if block := re.match(r"blocks\.(\d+)\.", name):
        return int(block[1]) + 1
    if name.startswith(("patch_embed", "rope", *_NEVER_DECAYED)):
        return 0
    return depth + 1


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    backbone: str = "",
    depth: int = 0,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Sort trainable parameters into AdamW groups.

    Args:
        model: Whose parameters with ``requires_grad`` are taken, each once.
        lr: Highest learning rate (after warm-up, for the last layers and heads).
        weight_decay: For matrices; vectors (biases, norms, layer scales) and tokens get 0.
        backbone: Name prefix of the backbone within ``model``, for example ``"backbone."``.
        depth: Number of blocks of the backbone.
        layer_decay: Factor on ``lr`` per layer away from the output: layer i of the backbone gets
            ``lr * layer_decay ** (depth + 1 - i)``, everything outside it ``lr`` (BEiT, as in the paper's section 4).

    Returns:
        Groups with keys ``name``, ``params``, ``lr`` and ``weight_decay``, in a fixed order.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = layer_of(name.removeprefix(backbone), depth) if name.startswith(backbone) else depth + 1
        rate = lr * layer_decay ** (depth + 1 - layer) if layer_decay != 1.0 else lr
        still = parameter.ndim < 2 or name.split(".")[-1] in _NEVER_DECAYED
        decay = 0.0 if still else weight_decay
        label = f"lr {rate:.3g}, decay {decay:g}"
        group = {"name": label, "params": [], "lr": rate, "weight_decay": decay}
        groups.setdefault((rate, decay), group)["params"].append(parameter)
    return list(groups.values())


def count_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """Return how many numbers the parameters hold."""
    return sum(p.numel() for p in parameters)
