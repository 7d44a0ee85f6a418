"""Read any ViT checkpoint safely and load it into a backbone, saying what fitted."""

from __future__ import annotations

import argparse
import contextlib
import io
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from timm.models.eva import Eva
from timm.models.eva import checkpoint_filter_fn as eva_names
from timm.models.vision_transformer import checkpoint_filter_fn as vit_names
from torch import Tensor, nn

from unip.errors import UnipError
from unip.files import sha256
from unip.opening import open_regular
from unip.paths import status
from unip.vit.checkpoint_files import ZIP, check_checkpoint, not_a_checkpoint, refused_pickle
from unip.vit.eight_bit import restore
from unip.vit.layouts import (
    ANCHOR,
    GUARD,
    NOT_BACKBONE,
    check_heads,
    fit_prefix_positions,
    name_layout,
    split_prefix,
    unwrap,
    without_chunks,
)
from unip.vit.matching import BLOCK, check_blocks, check_family, check_match, describe, some
from unip.vit.size import check_archive, check_tensors
from unip.vit.spec import blocks, last_heads

# What is resized, and how timm's ViTs and CLIP name it.
RESIZED = {
    ANCHOR: r"patch_embed\.proj\.weight|(module\.)?visual\.conv1\.weight",
    "pos_embed": r"pos_embed|(module\.)?visual\.positional_embedding",
}


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds of a backbone.

    Attributes:
        file: Where it was read from.
        sha256: The file's hash.
        layout: Whose layout it has, in words.
        state: The backbone's tensors in the file's own names without prefixes; floating ones are float32.
        outside: Names of the tensors that belong to other parts of a larger model.
        last_heads: Head count of the last block where the file tells it.
        metadata: What a safetensors file says about itself.
    """

    file: Path
    sha256: str
    layout: str
    state: dict[str, Tensor]
    outside: tuple[str, ...]
    last_heads: int | None
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class LoadReport:
    """How a checkpoint was loaded into a backbone; all tensors of the backbone are set by it.

    Attributes:
        file: Where it was read from.
        sha256: The file's hash.
        layout: Whose layout it has, in words.
        matched: Tensors of the backbone: as many were set.
        ignored: Tensors of the file that are not the backbone's: heads, decoders and the like.
        resized: Tensors that were resampled to the backbone's patch size or grid, with both shapes.
        moved: Tensors that were set elsewhere than in the file's own model, with both names.
    """

    file: str
    sha256: str
    layout: str
    matched: int
    ignored: tuple[str, ...]
    resized: tuple[str, ...]
    moved: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the report as lines for people."""
        lines = [
            f"weights {self.file} ({self.layout} layout, sha256 {self.sha256[:12]})",
            f"  matched {self.matched} tensors, all of the backbone's",
        ]
        for title in ("resized", "moved", "ignored"):
            names: tuple[str, ...] = getattr(self, title)
            if names:
                lines.append(f"  {title} {len(names)}: {some(names)}")
        return lines

    def __str__(self) -> str:
        """Return the lines joined."""
        return "\n".join(self.lines())


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the backbone out of a checkpoint of any layout, running nothing that the file holds.

    MAE (``model`` + ``args``), DINO and iBOT (``teacher``/``student``), DeiT, DeiT III, DINOv2 (also of its training),
    DINOv3, timm, UNIP's released files, larger models with a ``backbone.`` and our own files; safetensors or
    ``torch.save``.

    Args:
        path: The file.

    Returns:
        The checkpoint, its floating-point tensors as float32 on the CPU.

    Raises:
        UnipError: The file is missing, truncated, no checkpoint, one shard, would run code, holds NaN or infinity,
            lacks a block, or is of an architecture that cannot be used under any name.
    """
    file = Path(path)
    payload, metadata = _read_file(file)
    tensors, wrappers, heads = unwrap(payload, file)
    check_tensors(tensors, status(file).st_size, file)
    state, outside = split_prefix(tensors)
    if not state:
        raise UnipError(f"{file} holds no tensors by name", "Save a model's state_dict() instead.")
    state = without_chunks(state)
    layout = "unip" if "unip" in metadata else name_layout(state, outside, wrappers, heads)
    for name in [name for name in state if GUARD.fullmatch(name)]:
        heads = check_heads(state.pop(name), name, file)
    check_family(state, file)
    check_blocks(state, file)
    for name, value in state.items():
        state[name] = _in_float32(name, value, file)
    return Checkpoint(file, sha256(file), layout, state, outside, heads, metadata)


def load_into(model: nn.Module, checkpoint: Checkpoint) -> LoadReport:
    """Load a checkpoint into a backbone; patch kernels and positions are resized to the backbone's.

    Args:
        model: A backbone from :func:`unip.vit.spec.build_backbone`.
        checkpoint: What :func:`read_checkpoint` gave.

    Returns:
        What was matched, ignored, resized and moved.

    Raises:
        UnipError: A tensor of the backbone is missing, one of the file has no place although it changes what the
            model computes, or width, depth, head count or a tensor's shape differ.
    """
    file, fix = checkpoint.file, _fix(checkpoint)
    _check_same_shape(model, checkpoint, fix)
    source = fit_prefix_positions(dict(checkpoint.state), model)
    renamed = _in_timm_names(model, source, file, fix)
    own, moved = model.state_dict(), []
    if "norm.weight" in own and "norm.weight" not in renamed and "fc_norm.weight" in renamed:
        moved = [f"{name} -> {name[3:]}" for name in source if name.startswith("fc_norm.")]
        source, renamed = ({re.sub("^fc_norm", "norm", k): v for k, v in state.items()} for state in (source, renamed))
    check_match(model, source, renamed, file, fix)
    model.load_state_dict({name: renamed[name] for name in own})
    return LoadReport(
        file=str(file),
        sha256=checkpoint.sha256,
        layout=checkpoint.layout,
        matched=len(own),
        ignored=(*_ignored(source, renamed, own), *checkpoint.outside),
        resized=tuple(_resized(source, own)),
        moved=tuple(moved),
    )


def _in_float32(name: str, value: Tensor, file: Path) -> Tensor:
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        what = f"{file}: tensor {name} is sparse, quantised or without values"
        raise UnipError(what, "Save it as a dense floating-point tensor.")
    if not value.is_floating_point():
        return value
    value = value.to(torch.float32)
    if not torch.isfinite(value).all():
        raise UnipError(f"{file}: tensor {name} holds NaN or infinity", "The file is damaged: use another one.")
    return value


def _fix(checkpoint: Checkpoint) -> str:
    """Return what to do where the backbone is of another architecture than the file."""
    if "unip" in checkpoint.metadata:
        return "Its description and its tensors do not belong together: save the model again."
    told = describe(checkpoint.state)
    return f"The architecture must be the one that the file was saved from. Its tensors show: {told}."


def _ignored(source: Mapping[str, Tensor], renamed: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    return list(dict.fromkeys(name for name in (*source, *renamed) if NOT_BACKBONE.search(name) and name not in own))


def _resized(source: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Say which tensors have another patch size or position grid in the file, whatever they are called there."""
    pairs = [(name, there) for name, pattern in RESIZED.items() for there in source if re.fullmatch(pattern, there)]
    return [
        f"{there} {tuple(source[there].shape)} -> {tuple(own[name].shape)}"
        for name, there in pairs
        if name in own and source[there].shape[-2:] != own[name].shape[-2:]
    ]


def _read_file(file: Path) -> tuple[Any, dict[str, str]]:
    if check_checkpoint(file):
        try:
            with safe_open(file, framework="pt") as archive:
                tensors = {name: archive.get_tensor(name) for name in archive.keys()}
                return restore(tensors, str(file)), archive.metadata() or {}
        except (SafetensorError, ValueError, RuntimeError) as error:
            raise not_a_checkpoint(file) from error
    try:
        # MAE's, DINO's and UNIP's files keep the options of their run in one of these: plain data, no code.
        allowed = torch.serialization.safe_globals([argparse.Namespace])
        with open_regular(file) as stream, allowed, warnings.catch_warnings():
            if stream.read(len(ZIP)) == ZIP:
                check_archive(stream, file)
            stream.seek(0)
            warnings.simplefilter("ignore")  # about old pickle formats; what matters raises
            return torch.load(stream, map_location="cpu", weights_only=True), {}
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise refused_pickle(file, refused[1] if refused else None) from error
    except UnipError:
        raise
    except Exception as error:  # a torn pickle or archive raises nearly anything
        raise not_a_checkpoint(file) from error


def _in_timm_names(model: nn.Module, state: dict[str, Tensor], file: Path, fix: str) -> dict[str, Tensor]:
    """Apply timm's own checkpoint filter: names of all its ViTs, patch kernels and positions resized."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # timm prints what it tries on DINOv3 files
            if isinstance(model, Eva):
                return dict(eva_names(dict(state), model))
            return dict(vit_names(dict(state), model, adapt_layer_scale=True))
    except (RuntimeError, ValueError, KeyError, AttributeError, IndexError, TypeError, AssertionError) as error:
        raise UnipError(f"{file}: its positions or names do not fit {type(model).__name__}: {error}", fix) from error


def _check_same_shape(model: nn.Module, checkpoint: Checkpoint, fix: str) -> None:
    file, state = checkpoint.file, checkpoint.state
    width = int(model.embed_dim)  # type: ignore[arg-type]
    given = next((state[k].shape[0] for k in (ANCHOR, "norm.weight") if k in state and state[k].ndim), width)
    if given != width:
        raise UnipError(f"{file} is {given} wide, but the model is {width} wide", fix)
    positions = state.get("pos_embed")
    if positions is not None and (positions.ndim != 3 or len(positions) != 1):  # timm would stretch what it can
        raise UnipError(f"{file}: pos_embed is {tuple(positions.shape)}, not (1, positions, {width})", fix)
    found = {int(m[1]) for m in map(BLOCK.match, state) if m}
    depth = len(blocks(model))
    if found and len(found) != depth:
        complete = "Use a complete file. " if len(found) < depth else ""
        raise UnipError(f"{file} has {len(found)} blocks, but the model has {depth}", complete + fix)
    if checkpoint.last_heads not in (None, last_heads(model)):
        raise UnipError(
            f"{file} was trained with {checkpoint.last_heads} heads in its last block, "
            f"but the model has {last_heads(model)} there",
            f"Build the model with last_heads={checkpoint.last_heads}.",
        )
    name = f"blocks.{depth - 1}.attn.qkv.weight"
    own = model.state_dict().get(name)
    if name in state and own is not None and state[name].shape[0] != own.shape[0]:
        raise UnipError(
            f"{file}: the heads of its last block are {state[name].shape[0] // 3} channels wide together, "
            f"but the model's {last_heads(model)} heads {own.shape[0] // 3}",
            "It has another head count there: give the run folder or its model/, whose config.json tells the count.",
        )
