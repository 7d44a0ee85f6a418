"""What ViT checkpoints wrap their tensors in, reduced to one flat dict; tensors are renamed in weights.py."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unip.errors import UnipError

# Where the weights are in a checkpoint, the better one first: an averaged model before the trained one.
WRAPPERS = (
    "teacher",  # DINO, iBOT, DINOv2
    "state_dict_ema",
    "model_ema",
    "target_encoder",  # I-JEPA
    "model",  # MAE, DeiT, DeiT III, UNIP
    "state_dict",
    "module",  # EVA
    "encoder",
    "student",
)
ANCHOR = "patch_embed.proj.weight"  # every layout that we read has it, behind some prefix
GUARD = re.compile(r"blocks\.\d+\.attn\.num_heads")  # our export's mark for a last block with its own heads

MAX_DEPTH = 8  # of dictionaries in each other; real files have two or three
MAX_HEADS = 1024

# What a file may hold besides the backbone without changing what the backbone computes: heads, pooling and norms behind
# the last block, decoders, mask tokens, text towers and buffers of pre-training. docs/models.md lists them.
NOT_BACKBONE = re.compile(
    r"^(heads?|head_dist|cls_head|classifier|aux_head|decode_head|auxiliary_head|seg_head|neck|pooler|decoder|mask_token"
    r"|masked_embed|pre_logits|attn_pool|fc_norm|lm_head|dino_head|ibot_head|projectors?|projection_head|local_cls_norm"
    r"|predictor|text|logit_scale|logit_bias)([._]|$)"
    r"|^fc\.|(bias_mask|num_batches_tracked)$"
)


def unwrap(payload: Any, file: Path) -> tuple[dict[str, Tensor], tuple[str, ...], int | None]:
    """Find the tensors in what a checkpoint file holds.

    Args:
        payload: The loaded object.
        file: Where it was read from, for messages.

    Returns:
        The tensors by name (empty if there are none), the wrappers passed on the way, and the head count that
        UNIP's released files keep in ``args.last_heads``.

    Raises:
        UnipError: Dictionaries are nested too deep, which includes one that holds itself.
    """
    wrappers: list[str] = []
    heads: int | None = None
    while isinstance(payload, Mapping):
        args = payload.get("args")
        args = args if isinstance(args, Mapping) else getattr(args, "__dict__", {})
        if isinstance(args.get("last_heads"), int):
            heads = check_heads(args["last_heads"], "args.last_heads", file)
        inner = next((key for key in WRAPPERS if _holds_weights(payload.get(key))), None)
        if inner is None:
            return {str(k): v for k, v in payload.items() if isinstance(v, Tensor)}, tuple(wrappers), heads
        if len(wrappers) == MAX_DEPTH:
            raise UnipError(
                f"{file}: its dictionaries are nested more than {MAX_DEPTH} deep, or one holds itself "
                f"({' > '.join(wrappers)} > ...)",
                "Save a model's state_dict() alone.",
            )
        wrappers.append(inner)
        payload = payload[inner]
    return {}, tuple(wrappers), heads


def _holds_weights(value: Any) -> bool:
    """Say whether a value is a dictionary of tensors, or a wrapper of one; not, for instance, one of settings."""
    if not isinstance(value, Mapping):
        return False
    inner = (value.get(key) for key in WRAPPERS)
    return any(isinstance(v, Tensor) for v in value.values()) or any(isinstance(v, Mapping) for v in inner)


def check_heads(count: Any, name: str, file: Path) -> int:
    """Return the head count that a file states.

    Raises:
        UnipError: It cannot be one.
    """
    if isinstance(count, Tensor) and (count.numel() != 1 or count.is_floating_point()):
        shown = f"of shape {tuple(count.shape)} and of {count.dtype}"
    elif not 1 <= int(count) <= MAX_HEADS:
        shown = str(int(count))
    else:
        return int(count)
    raise UnipError(f"{file}: {name}, the head count of a block, is {shown}", "The file is damaged: use another one.")


def split_prefix(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Take the backbone out of a larger model, whatever prefix it has there.

    Args:
        tensors: All tensors of a checkpoint.

    Returns:
        The backbone's tensors without the prefix, and the names of the tensors outside it.
    """
    found = [key.removesuffix(ANCHOR) for key in tensors if key.endswith(ANCHOR)]
    prefixes = [prefix for prefix in found if not prefix or prefix.endswith(".")]
    if not prefixes:
        return dict(tensors), ()
    prefix = min(prefixes, key=lambda p: ("teacher" not in p, len(p)))
    inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return inside, tuple(key for key in tensors if not key.startswith(prefix))


def without_chunks(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the blocks of DINOv2's training checkpoints, ``blocks.CHUNK.BLOCK.*``, as all others do: ``blocks.BLOCK.*``.

    Its training code wraps blocks in chunks for FSDP; BLOCK counts through all of them (``block_chunks`` in
    ``dinov2/models/vision_transformer.py``).
    """
    renamed = {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): value for name, value in state.items()}
    return renamed if len(renamed) == len(state) else state


def name_layout(
    names: Mapping[str, Any], outside: tuple[str, ...], wrappers: tuple[str, ...], unip_heads: int | None
) -> str:
    """Say in a word or two whose layout a checkpoint has.

    Args:
        names: The backbone's tensors by name.
        outside: Names of the tensors outside the backbone.
        wrappers: Keys the tensors were found under.
        unip_heads: The head count that only UNIP's released files hold.
    """
    everything = [*names, *outside]
    if unip_heads is not None:
        return "UNIP"
    if "storage_tokens" in names:
        return "DINOv3"
    if any(key.startswith("decoder_") for key in everything):
        return "MAE"
    if any("masked_embed" in key or "last_layer2" in key for key in everything):
        return "iBOT"
    if "register_tokens" in names or ("mask_token" in names and "blocks.0.ls1.gamma" in names):
        return "DINOv2"
    if {"teacher", "student"} & set(wrappers):
        return "DINO"
    if "blocks.0.gamma_1" in names and "blocks.0.attn.q_bias" not in names:
        return "DeiT III"
    if "dist_token" in names:
        return "DeiT, distilled"
    return f"ViT in {wrappers[-1]!r}" if wrappers else "ViT"


def fit_prefix_positions(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give the positions of class and register tokens the form that the model has; both forms mean the same.

    A model without such positions adds nothing to these tokens (DeiT III), so a zero position equals none, and
    a class position can be added into the class token once and for all (what timm does for DINOv2's registers).

    Args:
        tensors: Backbone tensors, ``pos_embed`` of shape ``(1, [prefix +] patches, width)`` among them.
        model: The timm model that will take them.

    Returns:
        The tensors, with ``pos_embed`` and ``cls_token`` changed where needed. Those of other shapes are left as they
        are, to be refused where all shapes are compared with the model's.
    """
    positions = tensors.get("pos_embed")
    if positions is None or positions.ndim != 3 or len(positions) != 1 or getattr(model, "pos_embed", None) is None:
        return tensors
    if "register_tokens" in tensors:
        tensors = dict(tensors)
        tensors["reg_token"] = tensors.pop("register_tokens")
    prefix = 0 if getattr(model, "no_embed_class", False) else int(model.num_prefix_tokens)  # type: ignore[arg-type]
    count = positions.shape[1]
    if is_square(count - prefix) or count == model.get_parameter("pos_embed").shape[1]:
        return tensors
    token = tensors.get("cls_token")
    if prefix == 0 and is_square(count - 1) and token is not None and token.shape == (1, 1, positions.shape[2]):
        folded = token + positions[:, :1]
        return {**tensors, "cls_token": folded, "pos_embed": positions[:, 1:]}
    if prefix and is_square(count):
        zeros = positions.new_zeros(1, prefix, positions.shape[2])
        return {**tensors, "pos_embed": torch.cat([zeros, positions], dim=1)}
    return tensors


def is_square(number: int) -> bool:
    """Say whether ``number`` patches can be a square grid."""
    return number > 0 and math.isqrt(number) ** 2 == number
