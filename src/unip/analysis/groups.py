"""How a model was pre-trained, guessed from its name: the groups that the paper compares."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from unip.vit.sources import parse_source

Group = Literal["supervised", "contrastive", "masked-image", "distilled", "other"]

# The first that a word of the name fits counts. Self-distillation (DINO, iBOT) is contrastive, as in the paper.
_WORDS: tuple[tuple[Group, str], ...] = (
    ("distilled", r"unip|distil"),
    ("contrastive", r"dino(v\d)?|ibot|moco(v\d)?|simclr|swav|msn|clip\w*|siglip\d*|openai|laion\w*|webli|datacomp\w*"),
    ("masked-image", r"(cross)?mae|beit(v\d)?|simmim|mim|eva(02)?|data2vec\w*"),
    ("supervised", r"deit3?|augreg\d*|sam|in\d+k|jft\w*|orig"),
)
_GENERIC_NAMES = {"model", "model.safetensors", "checkpoints"}


def group_of(source: str) -> Group:
    """Guess a model's group from its name or its file's name; ``other`` if no word is known.

    Args:
        source: Such as ``timm:vit_base_patch16_224.dino``, ``deit_tiny.pth`` or ``runs/distil/model``.
    """
    names, found = [source_name(source)], parse_source(source)
    if found.kind == "timm":
        from timm.models import get_pretrained_cfg, is_model  # imports torch, which settings do without

        name = names[0]
        known = None if "." in name or not is_model(name) else get_pretrained_cfg(name)
        names = [source_name(str(found.file or "")), f"{name}.{known.tag}" if known else name]
    for name in names:
        words = re.findall(r"[a-z][a-z0-9]*", name.lower())
        for group, pattern in _WORDS:
            if any(re.fullmatch(pattern, word) for word in words):
                return group
    return "other"


def source_name(source: str) -> str:
    """Return the informative part of a model's source: timm's name, a file's name, a run's folder."""
    found = parse_source(source)
    if found.kind == "timm":
        return found.name
    named = [part for part in PurePath(source).parts if part not in _GENERIC_NAMES]
    return named[-1] if named else source
