"""How a model was pre-trained, told from its name: the groups that the paper compares."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal, get_args

Group = Literal["supervised", "contrastive", "masked-image", "distilled", "other"]
GROUPS: tuple[Group, ...] = get_args(Group)

# The first that a word of the name fits counts. Self-distillation (DINO, iBOT) is contrastive, as in the paper.
_WORDS: tuple[tuple[Group, str], ...] = (
    ("distilled", r"unip|distil"),
    ("contrastive", r"dino(v\d)?|ibot|moco(v\d)?|simclr|swav|msn|clip\w*|siglip\d*|openai|laion\w*|webli|datacomp\w*"),
    ("masked-image", r"(cross)?mae|beit(v\d)?|simmim|mim|eva(02)?|data2vec\w*"),
    ("supervised", r"deit3?|augreg\d*|sam|in\d+k|jft\w*|orig"),
)
_SAYS_NOTHING = {"model", "model.safetensors", "checkpoints"}


def group_of(source: str) -> Group:
    """Tell the group of a model from its name, or the name of its file; ``other`` where that says nothing.

    Args:
        source: Such as ``timm:vit_base_patch16_224.dino``, ``deit_tiny.pth`` or ``runs/distil/model``.
    """
    names = [telling_name(source)]
    if source.startswith("timm:"):
        from timm.models import get_pretrained_cfg, is_model  # imports torch, which settings do without

        name = names[0]
        known = None if "." in name or not is_model(name) else get_pretrained_cfg(name)
        names = [telling_name(source.partition("@")[2]), f"{name}.{known.tag}" if known else name]
    for name in names:
        words = re.findall(r"[a-z][a-z0-9]*", name.lower())
        for group, pattern in _WORDS:
            if any(re.fullmatch(pattern, word) for word in words):
                return group
    return "other"


def telling_name(source: str) -> str:
    """Return the part of a model's source that says most: timm's name, a file's name, a run's folder."""
    if source.startswith("timm:"):
        return source.partition("@")[0].removeprefix("timm:")
    telling = [part for part in PurePath(source).parts if part not in _SAYS_NOTHING]
    return telling[-1] if telling else source
