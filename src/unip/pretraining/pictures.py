"""Pictures of the state of pre-training, one kind for each objective."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from unip.attention.capture import attention_map
from unip.attention.pictures import Picture, example_queries, patch_rows, query_sheet, sheet
from unip.pretraining.tokens import AttentionSide


def draw_attention(images: torch.Tensor, columns: Mapping[str, tuple[AttentionSide, int]]) -> Picture:
    """Draw what three query tokens attend to, side by side.

    Args:
        images: Grey (N, 1, S, S) uint8.
        columns: For each heading whose attention, here of all tokens, and how many tokens are before the patches.
    """
    frames = list(images[:, 0].cpu().numpy())
    maps = {
        name: (attention_map(side.q.float(), side.k.float(), side.scale).mean(1).cpu().numpy(), prefix)
        for name, (side, prefix) in columns.items()
    }
    side = next(math.isqrt(found.shape[-1] - prefix) for found, prefix in maps.values())
    queries = [example_queries(frame, (side, side)) for frame in frames]
    rows = {
        name: np.stack(
            [
                patch_rows(attention, list(named.values()), prefix, (side, side))
                for attention, named in zip(found, queries, strict=True)
            ]
        )
        for name, (found, prefix) in maps.items()
    }
    return query_sheet(frames, queries, rows)


def draw_components(images: torch.Tensor, columns: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> Picture:
    """Draw tokens as colours: red, green and blue are the three main components of the teacher's tokens.

    Args:
        images: Grey (N, 1, S, S) uint8.
        columns: For each heading the teacher's patch tokens (N, L, C) and the student's.
    """
    size = images.shape[-1]
    rows = [[_grey(image)] for image in images]
    headings = ["image"]
    for name, (teacher, student) in columns.items():
        flat = _directions(teacher).flatten(0, 1)
        middle = flat.mean(0)
        components = torch.linalg.svd(flat - middle, full_matrices=False).Vh[:3]
        spread = ((flat - middle) @ components.T).abs().quantile(0.95, dim=0).clamp_min(1e-6)
        for side, tokens in (("teacher", teacher), ("student", student)):
            headings.append(side if len(columns) == 1 else f"{name} {side}")
            colours = ((_directions(tokens) - middle) @ components.T / spread * 127 + 128).clamp(0, 255)
            grid = math.isqrt(colours.shape[1])
            maps = colours.transpose(1, 2).unflatten(2, (grid, grid))
            large = torch.nn.functional.interpolate(maps, (size, size), mode="nearest").permute(0, 2, 3, 1)
            for row, picture in zip(rows, large, strict=True):
                row.append(picture.byte().cpu().numpy())
    return sheet(rows, columns=headings, labels=[f"image {n}" for n in range(1, len(rows) + 1)])


def draw_masked(images: torch.Tensor, seen: torch.Tensor, painted: torch.Tensor) -> Picture:
    """Draw masked input, reconstruction and original side by side, each (N, 1, S, S) in 0..255."""
    rows = [[_grey(side) for side in sides] for sides in zip(seen, painted, images, strict=True)]
    labels = [f"image {n}" for n in range(1, len(rows) + 1)]
    return sheet(rows, columns=["masked input", "reconstruction", "original"], labels=labels)


def _directions(tokens: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(tokens.float(), dim=-1)


def _grey(image: torch.Tensor) -> Picture:
    return image[0].float().round().clamp(0, 255).byte().cpu().numpy()[..., None].repeat(3, axis=2)
