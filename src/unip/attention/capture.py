"""Queries and keys of any layer, captured while the model runs with fused attention.

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
from unip.vit.forward import block_rope, embed, run_block
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
    q, k = _projected(attn, x, "qk")
    return _placed(attn, q, k, rope)


def queries_keys_values(
    attn: nn.Module, x: torch.Tensor, rope: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute queries, keys and values, each (B, H, L, D); arguments and errors as for :func:`queries_keys`."""
    q, k, v = _projected(attn, x, "qkv")
    return *_placed(attn, q, k, rope), v


def _projected(attn: Any, x: torch.Tensor, parts: str) -> list[torch.Tensor]:
    """Project (B, L, C) to the wanted ones of q, k and v, each (B, H, L, D)."""
    batch, tokens, _ = x.shape
    heads: int = getattr(attn, "num_heads", 0)
    if getattr(attn, "qkv", None) is not None:
        packed = _packed_projection(attn, x, len(parts)).reshape(batch, tokens, len(parts), heads, -1)
        return list(packed.permute(2, 0, 3, 1, 4).unbind(0))
    if getattr(attn, "q_proj", None) is not None:
        projections = [getattr(attn, f"{part}_proj") for part in parts]
        return [project(x).reshape(batch, tokens, heads, -1).transpose(1, 2) for project in projections]
    raise UnipError(
        f"cannot read queries and keys from a {type(attn).__name__}",
        "Use a plain ViT: timm's vit_*, deit*, eva02_* or dinov3 models.",
    )


def _placed(
    attn: Any, q: torch.Tensor, k: torch.Tensor, rope: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalise queries and keys and turn them by their rotary positions, where the module does that."""
    q, k = attn.q_norm(q), attn.k_norm(k)
    if rope is not None:
        prefix = getattr(attn, "num_prefix_tokens", 1)
        half = getattr(attn, "rotate_half", False)
        q, k = (
            torch.cat([t[:, :, :prefix], apply_rot_embed_cat(t[:, :, prefix:], rope, half=half).type_as(t)], dim=2)
            for t in (q, k)
        )
    return q, k


def _packed_projection(attn: Any, x: torch.Tensor, parts: int) -> torch.Tensor:
    """Project to the first ``parts`` of q, k and v, and compute nothing for the others."""
    weight, bias = attn.qkv.weight, attn.qkv.bias
    if getattr(attn, "q_bias", None) is not None:
        bias = torch.cat((attn.q_bias, attn.k_bias, attn.v_bias))
    rows = parts * (len(weight) // 3)
    return F.linear(x, weight[:rows], None if bias is None else bias[:rows])


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


class _AttentionInputs(nn.Module):
    """Stands in for the last wanted block: its norm and its attention's projections, nothing after them."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attn = block.norm1, block.attn


class Trunk(nn.Module):
    """The first layers of a ViT; it shares the weights of the model it was made from and has no hooks, so it compiles.

    Args:
        model: A timm ViT (VisionTransformer or Eva).
        layers: 1-based numbers of the layers that something is taken of; nothing runs beyond the last of them.
        end: What stands for the last of these layers, made from its block.

    Attributes:
        layers: The numbers, each once, rising.
        num_prefix_tokens: Class and register tokens before the patches.
        has_class_token: Whether the first of them is a class token.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int], end: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        for layer in layers:
            check_layer(model, layer)
        self.layers = tuple(sorted(set(layers)))
        last = self.layers[-1]
        trunk = copy.copy(model)  # shallow: parameters stay those of `model`
        trunk._modules = dict(model._modules)
        blocks: Any = model.blocks
        trunk.blocks = nn.ModuleList([*blocks[: last - 1], end(blocks[last - 1])])
        trunk.norm = nn.Identity()
        for head in ("head", "head_dist", "fc_norm", "head_drop", "attn_pool"):
            if head in trunk._modules:
                trunk._modules[head] = None
        self.trunk: Any = trunk
        self.num_prefix_tokens = prefix_tokens(model)
        self.has_class_token = class_tokens(model) > 0


class AttentionTrunk(Trunk):
    """A ViT that ends at the queries and keys, on request also the values, of the last wanted layer.

    Args:
        model: A timm ViT (VisionTransformer or Eva).
        layers: 1-based layer numbers.
        values: Take the values too.

    Attributes:
        heads: Head count by layer.
        scale: Factor on the logits by layer.
        residual: What the residual stream is rounded to under autocast, which would keep it in float32; None: nothing.
    """

    residual: torch.dtype | None = None

    def __init__(self, model: nn.Module, layers: Sequence[int], *, values: bool = False) -> None:
        super().__init__(model, layers, _AttentionInputs)
        blocks: Any = model.blocks
        self.values = values
        self.heads = {layer: heads_of(model, layer) for layer in self.layers}
        self.scale = {layer: float(blocks[layer - 1].attn.scale) for layer in self.layers}

    def forward(self, images: torch.Tensor) -> dict[int, tuple[torch.Tensor, ...]]:
        """Run normalised images (B, 3 or 1, H, W); return (q, k) or (q, k, v) by layer, each (B, heads, L, D)."""
        x, rope = embed(self.trunk, images)
        if self.residual is not None and torch.is_autocast_enabled(x.device.type):
            x = x.to(self.residual)
        project: Callable[..., tuple[torch.Tensor, ...]] = queries_keys_values if self.values else queries_keys
        found = {}
        for index, block in enumerate(self.trunk.blocks):
            if index + 1 in self.layers:
                found[index + 1] = project(block.attn, block.norm1(x), block_rope(self.trunk, rope, index))
            if index + 1 < self.layers[-1]:
                x = run_block(self.trunk, block, x, rope, index=index)
        return found


class TokenTrunk(Trunk):
    """A ViT that ends with the last wanted layer and gives the tokens behind each wanted one.

    Args:
        model: A timm ViT (VisionTransformer or Eva).
        layers: 1-based layer numbers.
        norm: Apply the model's final norm to the last layer's tokens, as the whole model does.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int], *, norm: bool = False) -> None:
        super().__init__(model, layers, lambda block: block)
        if norm:
            self.trunk.norm = model.norm

    def forward(self, images: torch.Tensor) -> dict[int, torch.Tensor]:
        """Run normalised images (B, 3 or 1, H, W); return tokens (B, L, C) by layer."""
        x, rope = embed(self.trunk, images)
        found = {}
        for index, block in enumerate(self.trunk.blocks):
            x = run_block(self.trunk, block, x, rope, index=index)
            if index + 1 in self.layers:
                found[index + 1] = x
        found[self.layers[-1]] = self.trunk.norm(x)
        return found
