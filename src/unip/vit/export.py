"""Save a backbone as one folder whose weights plain timm can load too, unless that would be silently wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unip.files import write_tensors
from unip.outputs import writing
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.sources import BACKBONE_FORMAT, WEIGHTS_NAME
from unip.vit.spec import blocks, has_own_last_heads, head_width, last_heads, timm_arguments
from unip.zoo.lineage import Lineage, lineage_lines, lineage_record


def save_backbone(
    model: nn.Module,
    spec: BackboneSpec,
    folder: str | Path,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    input_size: int,
    info: Mapping[str, Any],
    lineage: Lineage | None = None,
) -> Path:
    """Write ``config.json``, ``model.safetensors`` and a model card, the whole folder or nothing.

    The weights have timm's names. Where the last block has its own head count, which no timm name knows, they
    also hold an integer ``blocks.N.attn.num_heads``: a plain strict timm load then fails and names it, instead of
    cutting the last block's heads wrongly in silence.

    Args:
        model: A backbone from :func:`unip.vit.spec.build_backbone`.
        spec: What rebuilds it.
        folder: Where to; a folder that is there is replaced.
        mean: Channel means of its preprocessing, RGB in 0..1.
        std: Channel deviations.
        input_size: Side in pixels of the square training images.
        info: What else to tell (how it was made, results); JSON values.
        lineage: What it was made from.

    Returns:
        The folder.

    Raises:
        UnipError: The folder cannot be written.
        ValueError: ``spec`` does not describe ``model``'s last block.
    """
    own = has_own_last_heads(model)
    if last_heads(model) != (spec.last_heads or blocks(model)[0].attn.num_heads):
        raise ValueError(f"the last block has {last_heads(model)} heads, the spec says {spec.last_heads}")
    state = dict(model.state_dict())
    if own:
        state[f"blocks.{len(blocks(model)) - 1}.attn.num_heads"] = torch.tensor(last_heads(model))
    config = {
        "format": BACKBONE_FORMAT,
        "spec": spec.model_dump(mode="json"),
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
        "input_size": int(input_size),
    }
    metadata = {"unip": json.dumps(config), "last_heads": str(last_heads(model))}
    path = Path(folder)
    with writing(path) as target:
        target.mkdir()
        write_tensors(target / WEIGHTS_NAME, state, metadata)
        record = {**config, "info": dict(info), **lineage_record(lineage)}
        text = json.dumps(record, indent=1, allow_nan=False, default=str)
        (target / "config.json").write_text(text + "\n", encoding="utf-8")
        (target / "README.md").write_text(model_card(spec, config, info, own, lineage), encoding="utf-8")
    return path


def load_timm(file: str | Path) -> nn.Module:
    """Return the timm model of a file or folder that :func:`save_backbone` wrote, with the right heads.

    Args:
        file: ``model.safetensors``, or the folder it is in.

    Raises:
        UnipError: It cannot be read.
    """
    return load_backbone(str(file)).model


def model_card(
    spec: BackboneSpec,
    config: Mapping[str, Any],
    info: Mapping[str, Any],
    own_last_heads: bool,
    lineage: Lineage | None = None,
) -> str:
    """Return the model card: what it is, how it was made, how to load it."""
    kind = spec.timm_name or "ViT"
    shape = ", ".join(f"{key} {value}" for key, value in spec.arguments.items())
    last = f", {spec.last_heads} heads in the last block" if own_last_heads else ""
    width = int(spec.arguments.get("embed_dim", 0))
    if own_last_heads and spec.last_heads and width % spec.last_heads:
        last += f" of {head_width(width, spec.last_heads)} channels each"
    numbers = {key: " ".join(f"{value:.4g}" for value in config[key]) for key in ("mean", "std")}
    lines = [
        "# Backbone",
        "",
        f"{kind} ({shape}{last}).",
        f"Input: RGB in 0..1, less {numbers['mean']}, over {numbers['std']}; trained at {config['input_size']} pixels.",
        "",
        "## How it was made",
        "",
        *(f"- {key.replace('_', ' ')}: {_told(value)}" for key, value in info.items()),
        "",
        *lineage_lines(lineage),
        "## How to load it",
        "",
        "```python",
        "from unip.vit.backbone import load_backbone",
        'backbone = load_backbone("THIS_FOLDER")',
        "```",
        "",
    ]
    if own_last_heads:
        lines += [
            "Its last block has its own head count, which timm cannot express: a plain timm load fails on the tensor",
            "`attn.num_heads`. This gives the right timm model:",
            "",
            "```python",
            "from unip.vit.export import load_timm",
            f'model = load_timm("{WEIGHTS_NAME}")',
            "```",
        ]
    else:
        lines += ["With timm alone:", "", "```python", *_timm_lines(spec), "```"]
    return "\n".join(lines) + "\n"


def _told(value: Any) -> str:
    """Say a JSON value in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_told(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return "; ".join(_told(inner) for inner in value)
    return str(value)


def _timm_lines(spec: BackboneSpec) -> list[str]:
    name = spec.timm_name or "vit_base_patch16_224"  # any plain ViT: the arguments say the shape
    arguments = ", ".join(f"{key}={value!r}" for key, value in timm_arguments(spec).items())
    call = f'timm.create_model("{name}", checkpoint_path="{WEIGHTS_NAME}", {arguments})'
    return ["import timm", f"model = {call}"]
