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
from unip.vit.checkpoint_files import check_checkpoint, not_a_checkpoint, refused_pickle
from unip.vit.layouts import ANCHOR, GUARD, NOT_BACKBONE, fit_prefix_positions, name_layout, split_prefix, unwrap
from unip.vit.spec import blocks, last_heads


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
    """What of a checkpoint fitted a backbone.

    Attributes:
        file: Where it was read from.
        sha256: The file's hash.
        layout: Whose layout it has, in words.
        matched: Tensors of the backbone that were set.
        missing: Tensors of the backbone that stay random.
        unexpected: Tensors of the file that the backbone has no place for.
        ignored: Tensors of the file that are not the backbone's: heads, decoders and the like.
        resized: Tensors that were resampled to the backbone's patch size or grid, with both shapes.
        share: Part of the backbone's parameters that were set, 0..1.
    """

    file: str
    sha256: str
    layout: str
    matched: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    ignored: tuple[str, ...]
    resized: tuple[str, ...]
    share: float

    def lines(self) -> list[str]:
        """Return the report as lines for people."""
        lines = [
            f"weights {self.file} ({self.layout} layout, sha256 {self.sha256[:12]})",
            f"  matched {self.matched} tensors, {self.share:.1%} of the backbone's parameters",
        ]
        for title in ("missing", "unexpected", "resized", "ignored"):
            names: tuple[str, ...] = getattr(self, title)
            if names:
                lines.append(f"  {title} {len(names)}: {_some(names)}")
        return lines

    def __str__(self) -> str:
        """Return the lines joined."""
        return "\n".join(self.lines())


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the backbone out of a checkpoint of any layout, running nothing that the file holds.

    MAE (``model`` + ``args``), DINO and iBOT (``teacher``/``student``), DeiT, DeiT III, DINOv2, DINOv3, timm,
    UNIP's released files, larger models with a ``backbone.`` and our own files; safetensors or ``torch.save``.

    Args:
        path: The file.

    Returns:
        The checkpoint, its floating-point tensors as float32 on the CPU.

    Raises:
        UnipError: The file is missing, truncated, no checkpoint, would run code, or holds NaN or infinity.
    """
    file = Path(path)
    payload, metadata = _read_file(file)
    tensors, wrappers, heads = unwrap(payload)
    state, outside = split_prefix(tensors)
    if not state:
        raise UnipError(f"{file} holds no tensors by name", "Save a model's state_dict() instead.")
    layout = "unip" if "unip" in metadata else name_layout(state, outside, wrappers, heads)
    for name in [name for name in state if GUARD.fullmatch(name)]:
        heads = int(state.pop(name))
    for name, value in state.items():
        if value.is_floating_point():
            state[name] = value.to(torch.float32)
            if not torch.isfinite(state[name]).all():
                raise UnipError(f"{file}: tensor {name} holds NaN or infinity", "The file is damaged: use another one.")
    return Checkpoint(file, sha256(file), layout, state, outside, heads, metadata)


def load_into(model: nn.Module, checkpoint: Checkpoint, *, min_share: float = 0.5) -> LoadReport:
    """Load a checkpoint into a backbone; patch kernels and positions are resized to the backbone's.

    Args:
        model: A backbone from :func:`unip.vit.spec.build_backbone`.
        checkpoint: What :func:`read_checkpoint` gave.
        min_share: The least part of the backbone's parameters that must be set, 0..1.

    Returns:
        What was matched, missing, unexpected, ignored and resized.

    Raises:
        UnipError: Width, depth, head count or a tensor's shape differ, or too little of the backbone was set.
    """
    _check_same_shape(model, checkpoint)
    own = model.state_dict()
    source = fit_prefix_positions(dict(checkpoint.state), model)
    state = _in_timm_names(model, source, checkpoint.file)
    if "norm.weight" in own and "norm.weight" not in state and "fc_norm.weight" in state:
        state = {re.sub("^fc_norm", "norm", name): value for name, value in state.items()}
    fitting = {name: value for name, value in state.items() if name in own}
    for name, value in fitting.items():
        if value.shape != own[name].shape:
            raise UnipError(
                f"{checkpoint.file}: {name} is {tuple(value.shape)}, but the model has {tuple(own[name].shape)}",
                "The file is of another architecture: name the right one with timm:NAME@FILE.",
            )
    share = _share(model, fitting)
    missing = tuple(name for name in own if name not in fitting)
    if share < min_share:
        raise UnipError(
            f"{checkpoint.file} ({checkpoint.layout} layout) fits only {share:.1%} of the backbone: "
            f"missing {_some(missing)}; it holds {_some(tuple(checkpoint.state))}",
            "Most of the backbone would stay random. Name the right architecture with timm:NAME@FILE.",
        )
    model.load_state_dict(fitting, strict=False)
    leftover = [name for name in state if name not in own]
    pretraining = [name for name in checkpoint.state if NOT_BACKBONE.search(name) and name not in own]
    resized = [
        f"{name} {tuple(source[name].shape)} -> {tuple(value.shape)}"
        for name, value in fitting.items()
        if name in source and source[name].shape != value.shape and name in (ANCHOR, "pos_embed")
    ]
    return LoadReport(
        file=str(checkpoint.file),
        sha256=checkpoint.sha256,
        layout=checkpoint.layout,
        matched=len(fitting),
        missing=missing,
        unexpected=tuple(name for name in leftover if not NOT_BACKBONE.search(name)),
        ignored=(*pretraining, *checkpoint.outside),
        resized=tuple(resized),
        share=share,
    )


def _read_file(file: Path) -> tuple[Any, dict[str, str]]:
    if check_checkpoint(file):
        try:
            with safe_open(file, framework="pt") as archive:
                return {name: archive.get_tensor(name) for name in archive.keys()}, archive.metadata() or {}
        except (SafetensorError, ValueError, RuntimeError) as error:
            raise not_a_checkpoint(file) from error
    try:
        # MAE's, DINO's and UNIP's files keep the options of their run in one of these: plain data, no code.
        allowed = torch.serialization.safe_globals([argparse.Namespace])
        with open_regular(file) as stream, allowed, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickle formats; what matters raises
            return torch.load(stream, map_location="cpu", weights_only=True), {}
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise refused_pickle(file, refused[1] if refused else None) from error
    except Exception as error:  # a torn pickle or archive raises nearly anything
        raise not_a_checkpoint(file) from error


def _in_timm_names(model: nn.Module, state: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Apply timm's own checkpoint filter: names of all its ViTs, patch kernels and positions resized."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # timm prints what it tries on DINOv3 files
            if isinstance(model, Eva):
                return dict(eva_names(state, model))
            return dict(vit_names(state, model, adapt_layer_scale=True))
    except (RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise UnipError(
            f"{file}: its positions or names do not fit {type(model).__name__}: {error}",
            "The file is of another architecture: name the right one with timm:NAME@FILE.",
        ) from error


def _check_same_shape(model: nn.Module, checkpoint: Checkpoint) -> None:
    file = checkpoint.file
    width = int(model.embed_dim)  # type: ignore[arg-type]
    given = next((checkpoint.state[k].shape[0] for k in (ANCHOR, "norm.weight") if k in checkpoint.state), width)
    if given != width:
        raise UnipError(
            f"{file} is {given} wide, but the model is {width} wide",
            f"Take a checkpoint of width {width}, or a model of width {given}.",
        )
    found = {int(m[1]) for m in (re.match(r"blocks\.(\d+)\.", name) for name in checkpoint.state) if m}
    depth = len(blocks(model))
    if found and max(found) >= depth:
        raise UnipError(f"{file} has {max(found) + 1} blocks, but the model has {depth}", "Take the right model.")
    if checkpoint.last_heads not in (None, last_heads(model)):
        raise UnipError(
            f"{file} was trained with {checkpoint.last_heads} heads in its last block, "
            f"but the model has {last_heads(model)} there",
            f"Build the model with last_heads={checkpoint.last_heads}.",
        )
    name = f"blocks.{depth - 1}.attn.qkv.weight"
    own = model.state_dict().get(name)
    if name in checkpoint.state and own is not None and checkpoint.state[name].shape[0] != own.shape[0]:
        raise UnipError(
            f"{file}: the heads of its last block are {checkpoint.state[name].shape[0] // 3} channels wide together, "
            f"but the model's {last_heads(model)} heads {own.shape[0] // 3}",
            "It has another head count there: give the run folder or its model/, whose config.json tells the count.",
        )


def _share(model: nn.Module, fitting: Mapping[str, Tensor]) -> float:
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return sum(size for name, size in sizes.items() if name in fitting) / max(1, sum(sizes.values()))


def _some(names: tuple[str, ...], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
