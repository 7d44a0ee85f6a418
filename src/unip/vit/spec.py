"""What rebuilds a backbone with no network: a timm architecture, its arguments and the last block's heads."""

from __future__ import annotations

from typing import Any

import timm
from timm.layers import Attention, AttentionRope
from timm.models import is_model_in_modules
from timm.models.eva import Eva, EvaAttention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from unip.errors import UnipError
from unip.vit.architecture import BackboneSpec
from unip.vit.drop_path import SampleDropPath
from unip.vit.positions import initialise_from_scratch

# The timm modules whose models are plain ViTs, and what leaves their final norm on every token (`norm`, not
# `fc_norm` behind a pooling), so that dense features can use it.
DENSE_ARGUMENTS: dict[str, dict[str, str | bool]] = {
    "vision_transformer": {"global_pool": "", "fc_norm": False},
    "deit": {},  # always a class token and `norm`
    "eva": {"global_pool": "", "use_fc_norm": False},
}
ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}


def timm_arguments(spec: BackboneSpec) -> dict[str, Any]:
    """Return all keyword arguments with which timm builds the spec's architecture (last block aside)."""
    module = "vision_transformer"
    if spec.timm_name is not None:
        module = next((m for m in DENSE_ARGUMENTS if is_model_in_modules(spec.timm_name, {m})), "")
        if not module:
            raise not_plain(spec.timm_name)
    return {"num_classes": 0, **ANY_SIZE, **DENSE_ARGUMENTS[module], **spec.arguments}


def build_backbone(spec: BackboneSpec, *, drop_path: float = 0.0) -> nn.Module:
    """Build a backbone with random weights; inputs of any size work, sides are padded to whole patches.

    Args:
        spec: The architecture.
        drop_path: Stochastic depth rate, the same in every block (UNIP, section 4.1: 0.1).

    Returns:
        A timm ``VisionTransformer`` or ``Eva`` without a classifier, ``(B, 3, H, W)`` in, with ``blocks``,
        ``norm``, ``forward_features`` and ``forward_intermediates``.

    Raises:
        UnipError: The architecture is unknown, not a plain ViT, or its arguments do not fit together.
    """
    if not 0.0 <= drop_path < 1.0:
        raise UnipError(f"drop path must be in [0, 1), got {drop_path}")
    arguments = timm_arguments(spec)
    try:
        if spec.timm_name is None:
            model: nn.Module = VisionTransformer(**arguments)
        else:
            model = timm.create_model(spec.timm_name, pretrained=False, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        name = spec.timm_name or "VisionTransformer"
        raise UnipError(f"cannot build {name} with {spec.arguments}: {error}") from error
    _check_plain(model, spec.timm_name or type(model).__name__)
    if spec.last_heads is not None:
        set_last_heads(model, spec.last_heads)
    if spec.fixed_positions:
        initialise_from_scratch(model)
    if drop_path:
        for block in blocks(model):
            block.drop_path1, block.drop_path2 = SampleDropPath(drop_path), SampleDropPath(drop_path)
    return model


def set_last_heads(model: nn.Module, heads: int) -> None:
    """Give the last block ``heads`` attention heads, in place; its weights stay, they are cut differently.

    A head is ceil(width / heads) channels wide. Where ``heads`` does not divide the width, queries, keys and values
    together are thus a little wider than the tokens; the rows and columns that this adds start at random.

    Args:
        model: A backbone from :func:`build_backbone`.
        heads: The new head count (UNIP, section 4.1: as many as the teacher's).

    Raises:
        UnipError: There would be more heads than channels, or the block's attention depends on its head count.
    """
    block = blocks(model)[-1]
    old = block.attn
    if heads == old.num_heads:
        return
    if type(old) is not Attention or not isinstance(old.q_norm, nn.Identity):
        raise UnipError(
            f"the last block's attention ({type(old).__name__}) cannot take another head count",
            "Only plain attention without rotary positions and q/k norms can.",
        )
    width = old.qkv.in_features
    if not 1 <= heads <= width:
        raise UnipError(f"the last block cannot have {heads} heads: it is {width} channels wide")
    # by name only where it is needed: elsewhere the width of a head follows from the count
    uneven = {"attn_head_dim": head_width(width, heads)} if width % heads else {}
    new = Attention(
        width,
        num_heads=heads,
        qkv_bias=old.qkv.bias is not None,
        proj_bias=old.proj.bias is not None,
        attn_drop=old.attn_drop.p,
        proj_drop=old.proj_drop.p,
        **uneven,
    ).to(old.qkv.weight)
    state = {name: _cut(name, value, new.state_dict()) for name, value in old.state_dict().items()}
    new.load_state_dict(state)  # strict: an option of the old one that is not above shows here
    new.train(old.training)
    block.attn = new


def head_width(width: int, heads: int) -> int:
    """Return the channels of one head of the last block: ceil(width / heads)."""
    return -(-width // heads)


def _cut(name: str, old: Tensor, like: dict[str, Tensor]) -> Tensor:
    """Fit one tensor of an attention to another sum of head widths: what both have is kept, the rest is ``like``'s."""
    new = like.get(name)
    if new is None or new.shape == old.shape:
        return old
    # three projections lie on top of each other in qkv; the output projection has the channels as columns
    kept, given = new.clone(), old
    if name.startswith("qkv"):
        kept, given = (t.reshape(3, -1, *t.shape[1:]) for t in (kept, given))
    common = min(kept.shape[1], given.shape[1])
    kept[:, :common] = given[:, :common]
    return kept.reshape(new.shape)


def blocks(model: nn.Module) -> list[Any]:
    """Return the blocks of a backbone."""
    return list(model.get_submodule("blocks").children())


def last_heads(model: nn.Module) -> int:
    """Return the head count of the last block."""
    return int(blocks(model)[-1].attn.num_heads)


def has_own_last_heads(model: nn.Module) -> bool:
    """Say whether the last block's head count differs from the first block's."""
    return last_heads(model) != int(blocks(model)[0].attn.num_heads)


def not_plain(name: str) -> UnipError:
    """Return the error for an architecture that is not a plain ViT."""
    return UnipError(
        f"{name} is not a plain ViT",
        "Take a timm ViT, DeiT, DeiT III, DINOv2, EVA or DINOv3: blocks of softmax attention on one patch grid.",
    )


def _check_plain(model: nn.Module, name: str) -> None:
    if not isinstance(model, (VisionTransformer, Eva)):
        raise not_plain(name)
    for block in blocks(model):
        attn: Any = getattr(block, "attn", None)
        if type(attn) not in (Attention, AttentionRope, EvaAttention):
            raise not_plain(name)
        if getattr(attn, "num_kv_heads", attn.num_heads) not in (None, attn.num_heads):
            raise not_plain(name)
