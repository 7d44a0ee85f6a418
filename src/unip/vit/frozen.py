"""Faster products in the blocks of a frozen ViT: GELU within the product before it, and 8-bit floats.

Both change a block in place. They are made for a teacher that only runs forward on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import nn

FLOAT8 = torch.float8_e4m3fn
FLOAT8_MAX = torch.finfo(FLOAT8).max  # 448
MARGIN = 2.0  # over the largest input seen while measuring; what is larger still is cut off
MIN_SCALE = 1e-12  # scale of a layer that sees only zeros


class FusedGelu(nn.Module):
    """timm's ``Mlp`` with its GELU computed at the end of the first product, in half precision on a GPU.

    The hidden values, the widest of a block, are then written once instead of twice and read once instead of twice.
    The GPU's libraries know GELU by its tanh form, which differs from the exact one by at most 5e-4.

    Args:
        mlp: As :func:`is_plain_mlp` wants it.
    """

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.fc1, self.fc2 = mlp.fc1, mlp.fc2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (B, L, C) to (B, L, C)."""
        rows = x.reshape(-1, x.shape[-1])
        hidden = torch._addmm_activation(self.fc1.bias, rows, self.fc1.weight.t(), use_gelu=True)
        out: torch.Tensor = self.fc2(hidden).reshape(*x.shape[:-1], -1)
        return out


class TanhGelu(nn.Module):
    """GELU's tanh form, ``x * sigmoid(1.5957691 (x + 0.044715 x^3))``, without the slow tanh (2 s(2u) = 1 + tanh u)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it to each element."""
        return x * torch.sigmoid(1.5957691216057308 * x * (1 + 0.044715 * x * x))


class Float8Linear(nn.Module):
    """A linear layer on float8 inputs and weights (e4m3), each with one fixed scale, summed in float32.

    Scales are fixed before: finding the largest value of each input again costs more than the faster product saves.

    Args:
        linear: The layer; its weight becomes float8.
        largest: Largest absolute input that it will see.
    """

    def __init__(self, linear: nn.Linear, largest: float) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        weight_scale = weight.abs().max().clamp(min=MIN_SCALE) / FLOAT8_MAX
        self.bias = linear.bias
        self.weight: torch.Tensor
        self.scale: torch.Tensor
        self.weight_scale: torch.Tensor
        # as bytes: not everything that moves a model's weights knows float8
        self.register_buffer("weight", (weight / weight_scale).to(FLOAT8).view(torch.uint8))
        self.register_buffer("scale", torch.full_like(weight_scale, max(largest, MIN_SCALE) / FLOAT8_MAX))
        self.register_buffer("weight_scale", weight_scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., C) to (..., D), in the input's precision."""
        narrow = (x.float() / self.scale).clamp(-FLOAT8_MAX, FLOAT8_MAX).to(FLOAT8)
        weight = self.weight.view(FLOAT8)
        if not x.is_cuda:  # the same numbers; the product in float32
            wide = F.linear(narrow.float() * self.scale, weight.float() * self.weight_scale)
            return (wide if self.bias is None else wide + self.bias.float()).to(x.dtype)
        out = torch._scaled_mm(
            narrow.reshape(-1, x.shape[-1]),
            weight.t(),
            scale_a=self.scale,
            scale_b=self.weight_scale,
            bias=self.bias,
            out_dtype=x.dtype,
            use_fast_accum=True,
        )
        return out.reshape(*x.shape[:-1], -1)


def is_plain_mlp(module: Any) -> bool:
    """Say whether a block's MLP is timm's, with exact GELU, biases and nothing between or behind."""
    return (
        type(module) is Mlp
        and isinstance(module.fc1, nn.Linear)
        and module.fc1.bias is not None
        and type(module.act) is nn.GELU
        and isinstance(module.norm, nn.Identity)
    )


def fuse_gelus(blocks: Sequence[Any]) -> int:
    """Put :class:`FusedGelu` in place of each plain MLP; return of how many."""
    plain = [block for block in blocks if is_plain_mlp(getattr(block, "mlp", None))]
    for block in plain:
        block.mlp = FusedGelu(block.mlp)
    return len(plain)


@torch.no_grad()
def to_float8(blocks: Sequence[Any], run: Callable[[], object]) -> int:
    """Turn the linear layers of blocks to float8, with scales from what they see.

    Args:
        blocks: Of a timm ViT.
        run: Runs the model on images that are typical of what comes.

    Returns:
        How many layers were turned: those with channels in multiples of 16, as GPUs want them.
    """
    found = {
        (parent, name): child
        for block in blocks
        for parent in block.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and child.in_features % 16 == 0 and child.out_features % 16 == 0
    }
    largest = dict.fromkeys(found.values(), 0.0)

    def observe(layer: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        largest[layer] = max(largest[layer], inputs[0].abs().max().item())

    handles = [layer.register_forward_pre_hook(observe) for layer in largest]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    for (parent, name), layer in found.items():
        setattr(parent, name, Float8Linear(layer, MARGIN * largest[layer]))
    for block in blocks:
        mlp: Any = getattr(block, "mlp", None)
        if type(mlp) is Mlp and type(mlp.act) is nn.GELU:  # which else would be the slowest part of the block
            mlp.act = TanhGelu()
    return len(found)
