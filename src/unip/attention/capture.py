"""Queries and keys of any layer, taken while the model runs as fast as it can.

Fused attention never shows its map, so nothing here reads one: queries and keys are computed once more from the
attention's own input, and a map is made from them only where somebody asks for it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat
from torch import nn

from unip.errors import UnipError
from unip.vit.shape import check_layer, class_tokens, heads_of, prefix_tokens

Visit = Callable[[int, torch.Tensor, torch.Tensor, float], None]


def queries_keys(
    attn: nn.Module, x: torch.Tensor, rope: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute a timm attention module's queries and keys as its forward does, norms and rotary positions included.

    Args:
        attn: timm's ``Attention`` or ``EvaAttention`` (also its rotary variants).
        x: The module's input, (B, L, C).
        rope: Rotary position embedding that the block hands to the module, or None.

    Returns:
        q and k, each (B, H, L, D), unscaled.

    Raises:
        UnipError: The module is of another kind.
    """
    batch, tokens, _ = x.shape
    heads: int = getattr(attn, "num_heads", 0)
    if getattr(attn, "qkv", None) is not None:
        packed = _packed_projection(attn, x).reshape(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        q, k = packed[0], packed[1]
    elif getattr(attn, "q_proj", None) is not None:
        q = attn.q_proj(x).reshape(batch, tokens, heads, -1).transpose(1, 2)  # type: ignore[operator]
        k = attn.k_proj(x).reshape(batch, tokens, heads, -1).transpose(1, 2)  # type: ignore[operator]
    else:
        raise UnipError(
            f"cannot read queries and keys from a {type(attn).__name__}",
            "Use a plain ViT: timm's vit_*, deit*, eva02_* or dinov3 models.",
        )
    q, k = attn.q_norm(q), attn.k_norm(k)  # type: ignore[operator]
    if rope is not None:
        prefix = getattr(attn, "num_prefix_tokens", 1)
        half = getattr(attn, "rotate_half", False)
        q, k = (
            torch.cat([t[:, :, :prefix], apply_rot_embed_cat(t[:, :, prefix:], rope, half=half).type_as(t)], dim=2)
            for t in (q, k)
        )
    return q, k


def _packed_projection(attn: Any, x: torch.Tensor) -> torch.Tensor:
    if getattr(attn, "q_bias", None) is None:
        projected: torch.Tensor = attn.qkv(x)
        return projected
    return F.linear(x, attn.qkv.weight, torch.cat((attn.q_bias, attn.k_bias, attn.v_bias)))


def attention_map(q: torch.Tensor, k: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    """Softmax attention, in float32 or better.

    Args:
        q: Queries (B, H, L, D).
        k: Keys (B, H, L, D).
        scale: Factor on the logits; D ** -0.5 when None.

    Returns:
        (B, H, L, L), rows over keys sum to 1.
    """
    return attention_logits(q, k, scale).softmax(dim=-1)


def attention_logits(q: torch.Tensor, k: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    """Scaled dot products (B, H, L, L) before the softmax, in float32 or better."""
    precise = torch.promote_types(q.dtype, torch.float32)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return (q.to(precise) * scale) @ k.to(precise).transpose(-2, -1)


@contextmanager
def visiting(model: nn.Module, layers: Sequence[int], visit: Visit) -> Iterator[None]:
    """While the body runs the model, hand each chosen layer's queries and keys to ``visit``, one layer at a time.

    Args:
        model: A timm ViT; its attention stays fused.
        layers: 1-based layer numbers.
        visit: Called as ``visit(layer, q, k, scale)`` with q and k (B, H, L, D); what it keeps is its own choice.
    """
    for layer in layers:
        check_layer(model, layer)

    def hook_for(layer: int) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            x = inputs[0] if inputs else named["x"]
            rope = named.get("rope", inputs[1] if len(inputs) > 1 and isinstance(inputs[1], torch.Tensor) else None)
            q, k = queries_keys(module, x, rope)
            visit(layer, q, k, float(module.scale))  # type: ignore[arg-type]

        return hook

    blocks: Any = model.blocks
    handles = [
        blocks[layer - 1].attn.register_forward_pre_hook(hook_for(layer), with_kwargs=True) for layer in sorted(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def visiting_features(model: nn.Module, visit: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
    """While the body runs the model, hand each block's output to ``visit(layer, tokens)``, tokens (B, L, C)."""

    def hook_for(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        return lambda block, inputs, output: visit(layer, output[0] if isinstance(output, tuple) else output)

    blocks: Any = model.blocks
    handles = [block.register_forward_hook(hook_for(layer)) for layer, block in enumerate(blocks, start=1)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _QueryKeyBlock(nn.Module):
    """Stands in for the last wanted block: its norm and queries and keys, nothing after them."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attn = block.norm1, block.attn

    def forward(self, x: torch.Tensor, rope: torch.Tensor | None = None, **_: Any) -> torch.Tensor:
        return torch.stack(queries_keys(self.attn, self.norm1(x), rope))  # type: ignore[arg-type, operator]


class QueryKeyTrunk(nn.Module):
    """A ViT that ends at one layer's queries and keys; it shares the weights of the model it was made from.

    Nothing beyond that layer's key projection is computed, and there are no hooks, so it compiles whole.

    Args:
        model: A timm ViT (VisionTransformer or Eva).
        layer: 1-based layer number.
    """

    def __init__(self, model: nn.Module, layer: int) -> None:
        super().__init__()
        check_layer(model, layer)
        trunk = copy.copy(model)  # shallow: parameters stay those of `model`
        trunk._modules = dict(model._modules)
        blocks: Any = model.blocks
        trunk.blocks = nn.Sequential(*blocks[: layer - 1], _QueryKeyBlock(blocks[layer - 1]))
        trunk.norm = nn.Identity()
        for head in ("head", "fc_norm", "head_drop", "attn_pool"):
            if head in trunk._modules:
                trunk._modules[head] = None
        self.trunk = trunk
        self.layer = layer
        self.scale = float(blocks[layer - 1].attn.scale)
        self.num_heads = heads_of(model, layer)
        self.num_prefix_tokens = prefix_tokens(model)
        self.has_class_token = class_tokens(model) > 0

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run normalised images (B, 3, H, W); return q and k, each (B, heads, L, D)."""
        both = self.trunk.forward_features(images)  # type: ignore[operator]
        return both[0], both[1]
