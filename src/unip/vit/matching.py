"""Whether a checkpoint and a backbone are of the same architecture: which tensors, by name, not how many.

Two kinds of advice, which never point at each other: a file given alone may be asked to be named (``timm:NAME@FILE``),
and a file that does not fit its name is described, so that another name or another file can be taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from unip.errors import UnipError
from unip.vit.layouts import ANCHOR, NOT_BACKBONE

BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
COMPLETE = "The file is not complete: use a complete one."
DENSE_ADVICE = "Take a ViT, DeiT, DeiT III, DINOv2, EVA or DINOv3 instead."
RENAME_ADVICE = "Take the same model from timm (timm:NAME loads it from the hub), or rename its tensors as timm does."


@dataclass(frozen=True)
class Family:
    """Checkpoints that no architecture of unip can take, under whatever name.

    Attributes:
        sign: A tensor's name that only they have.
        what: What they are.
        fix: What to do instead.
    """

    sign: re.Pattern[str]
    what: str
    fix: str


FAMILIES = (
    Family(
        re.compile(r"relative_position_(bias_table|index)|rel_pos_bias|rel_pos_[hw]$"),
        "relative positions inside the attention (BEiT, SAM, Swin), which unip cannot compute",
        DENSE_ADVICE,
    ),
    Family(
        re.compile(r"(^|\.)lora_|\.(weight_scale|scales|qweight|absmax)$"),
        "an adapter or quantised weights, which change every block",
        "Merge the adapter, or dequantise the weights, where the file was made; then save the state_dict().",
    ),
    Family(
        re.compile(r"flat_param"),
        "flattened parameters of FSDP",
        "Save a full state_dict() where the file was made (torch.distributed.checkpoint.state_dict).",
    ),
    Family(
        re.compile(
            r"(^|\.)embeddings\.(patch_embed|cls_token|position_embed|class_embed)"
            r"|\.attention\.(attention\.(query|key|value)|output\.dense)\.|(^|\.)encoder\.layers?\.\d+\.self_attn\.q_proj\."
            r"|(^|\.)layer\.\d+\.attention\.[qkvo]_proj\."
        ),
        "tensor names of Hugging Face transformers",
        RENAME_ADVICE,
    ),
    Family(
        re.compile(r"(^|\.)layers\.\d+\.(ln[12]|ffn|attn)\."),
        "tensor names of mmpretrain or mmsegmentation",
        RENAME_ADVICE,
    ),
)


def check_family(names: Iterable[str], file: Path) -> None:
    """Refuse checkpoints that no architecture can take: other attention, names that timm does not know, adapters.

    Raises:
        UnipError: It is one of :data:`FAMILIES`.
    """
    names = [name for name in names if not name.startswith("beit3.")]  # timm knows these
    for family in FAMILIES:
        found = [name for name in names if family.sign.search(name)]
        if found:
            raise UnipError(f"{file} holds {family.what}: {some(found)}", family.fix)


def check_blocks(state: Mapping[str, Tensor], file: Path) -> None:
    """Refuse a file in which a block is missing or has other tensors than the others; the last may have other heads.

    Args:
        state: The backbone's tensors by timm's names.
        file: Where they were read from.

    Raises:
        UnipError: It is so.
    """
    found: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if match := BLOCK.fullmatch(name):
            found.setdefault(int(match[1]), {})[match[2]] = value
    if not found:
        return
    last = max(found)
    if len(found) <= last:
        absent = [f"blocks.{i}" for i in range(min(last, len(found) + 4)) if i not in found]
        raise UnipError(f"{file} has blocks up to {last}, but not {some(absent)}", COMPLETE)
    every = {name: value for block in found.values() for name, value in block.items()}
    for number, block in sorted(found.items()):
        if lacking := [f"blocks.{number}.{name}" for name in every if name not in block]:
            raise UnipError(f"{file} has no {some(lacking)}, although other blocks have it", COMPLETE)
        for name, value in block.items():
            first = found[0][name]
            if value.shape != first.shape and not (number == last and name.startswith("attn.")):
                raise UnipError(
                    f"{file}: blocks.{number}.{name} is {tuple(value.shape)}, but that of block 0 is "
                    f"{tuple(first.shape)}",
                    f"unip needs blocks of one size. {DENSE_ADVICE}",
                )


def check_match(
    model: nn.Module, source: Mapping[str, Tensor], renamed: Mapping[str, Tensor], file: Path, fix: str
) -> None:
    """Refuse weights that do not set every tensor of a backbone, or of which one that matters finds no place.

    Args:
        model: The backbone.
        source: The file's tensors in the file's names.
        renamed: The same in the model's names, as :func:`unip.vit.weights.load_into` is about to set them.
        file: Where they were read from.
        fix: What to do where they are of another architecture.

    Raises:
        UnipError: It is so, or a tensor has another shape or holds no floating-point numbers.
    """
    own = model.state_dict()
    if lacking := [name for name in own if name not in renamed]:
        raise UnipError(f"{file} has no {some(lacking)}, which the model needs", f"Use a complete file. {fix}")
    if left := _without_place(model, source, renamed):
        raise UnipError(f"{file} holds {some(left)}, which the model has no place for", fix)
    for name, tensor in own.items():
        value = renamed[name]
        if value.shape != tensor.shape:
            raise UnipError(f"{file}: {name} is {tuple(value.shape)}, but the model has {tuple(tensor.shape)}", fix)
        if not value.is_floating_point():
            raise UnipError(
                f"{file}: {name} holds {str(value.dtype).removeprefix('torch.')}, not floating-point numbers",
                "Save the weights as float32, float16 or bfloat16.",
            )


def _without_place(model: nn.Module, source: Mapping[str, Tensor], renamed: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that compute something in their own model, and nothing in this one."""
    own = model.state_dict()
    left = [name for name in renamed if name not in own and not NOT_BACKBONE.search(name)]
    if getattr(model, "rope", None) is None:  # timm's names leave the tables out: they are computed
        left += [name for name in source if "rope" in name and name not in left]
    else:
        left = [name for name in left if "rope" not in name or name.endswith("rope.freqs")]
    # DINOv3: the model takes the queries' and values' part, or no bias; what is left out must be zero.
    for name in source:
        if name.endswith("attn.qkv.bias") and name not in renamed:
            bias = source[name] * source.get(f"{name}_mask", 1)
            parts = bias.chunk(3)
            if (parts[1] if name.replace("qkv.bias", "q_bias") in own else bias).any():
                left.append(name)
    # A bias of zeros adds nothing.
    return [name for name in left if not (name.endswith("bias") and name in source and not source[name].any())]


def describe(state: Mapping[str, Tensor]) -> str:
    """Say what the tensors tell of their architecture, in a few words."""
    kernel, hidden = state.get(ANCHOR), state.get("blocks.0.mlp.fc1.weight")
    depth = len({match[1] for name in state if (match := BLOCK.fullmatch(name))})
    marks = {
        "class token": "cls_token",
        "registers": r"(reg|register|storage)_tokens?",
        "distillation token": "dist_token",
        "positions": "pos_embed",
        "rotary positions": r".*\brope.*",
        "a norm before the blocks": r"norm_pre\.weight",
        "layer scale": r"blocks\.0\.(ls1\.gamma|gamma_1)",
        "q/k norms": r"blocks\.0\.attn\.q_norm\.weight",
        "separate q and v biases": r"blocks\.0\.attn\.q_bias",
        "a qkv bias": r"blocks\.0\.attn\.qkv\.bias",
        "gated MLPs": r"blocks\.0\.mlp\.(w12|w1|fc1_g)\.weight",
    }
    has = [word for word, pattern in marks.items() if any(re.fullmatch(pattern, name) for name in state)]
    sizes = []
    if kernel is not None and kernel.ndim == 4:
        sizes += [f"width {kernel.shape[0]}", f"patches of {kernel.shape[2]} x {kernel.shape[3]} pixels"]
    if depth:
        sizes.append(f"{depth} blocks")
    if hidden is not None and hidden.ndim == 2:
        sizes.append(f"MLPs of {hidden.shape[0]}")
    return ", ".join([*sizes, *has]) or f"{len(state)} tensors, none of a ViT in timm's names"


def some(names: Iterable[str], most: int = 4) -> str:
    """Join the first few names, and say how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
