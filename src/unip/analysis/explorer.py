"""The explorer of a report: click a patch and see what it attends to, in any model, layer and head.

Attention maps travel inside the page. A layer of one image is one blob: every head's map and their mean, attention to
patches in whole steps of 1 / `LEVELS` of each row's largest value (so within 1 / 255 of it), attention to prefix tokens
as it is; explorer.js undoes `encode_layer` in the browser.

They are no PNG, which would be 4 % smaller: to read it, a page must read pixels, to which browsers that protect against
fingerprinting add noise.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from markupsafe import Markup
from PIL import Image

from unip.analysis.style import PATTERN_COLOURS
from unip.attention.capture import attention_map, visiting
from unip.attention.pictures import Picture
from unip.pages import data_uri, page_template
from unip.progress import meter
from unip.vit.shape import depth_of, patch_size, prefix_tokens

# Half a step is 1/260 of the row's maximum: as coarse as 1/255 allows with room for float32 rounding. Against 255
# levels it saves a sixth of the page (DeiT-Tiny on road scenes: 20 instead of 24 kB a map of 196 patches).
LEVELS = 130
LARGEST_SIDE = 24  # of the grid of patches, as at 384 px: maps grow with its fourth power
PICTURE_SIDE = 336  # pixels
_HEADER = struct.Struct("<5H")  # maps, queries, patch keys, prefix tokens, levels

Blobs = list[list[bytes]]  # per image, per layer


@dataclass(frozen=True)
class ExplorerImage:
    """An image to explore.

    Attributes:
        name: For people.
        pictures: What is shown, square uint8 (H, W) or (H, W, 3), by variant: "images", or "infrared" and "visible".
    """

    name: str
    pictures: Mapping[str, Picture]


@dataclass(frozen=True)
class ExplorerModel:
    """A model to explore.

    Attributes:
        name: Short, for people.
        group: How it was trained, for people.
        grid: Patch rows and columns.
        class_token: Whether the first token is a class token.
        registers: Register tokens, between class token and patches.
        heads: Per layer.
        patterns: Per layer, "local", "hybrid" or "global".
        chosen: The recommended layer, 1-based, or None.
        maps: By variant, what `explorer_maps` gave for the images of that variant.
    """

    name: str
    group: str
    grid: tuple[int, int]
    class_token: bool
    registers: int
    heads: Sequence[int]
    patterns: Sequence[str]
    chosen: int | None
    maps: Mapping[str, Blobs]


def explorer_grid(grid: tuple[int, int]) -> tuple[int, int]:
    """Return the grid on which the explorer shows maps: the model's own, or a coarser one of at most LARGEST_SIDE."""
    step = -(-max(grid) // LARGEST_SIDE)
    return -(-grid[0] // step), -(-grid[1] // step)


def pool_maps(attention: torch.Tensor, prefix: int, grid: tuple[int, int]) -> torch.Tensor:
    """Bring maps to the explorer's grid: blocks of queries are averaged, attention to blocks of keys is added up.

    Args:
        attention: (H, L, L), prefix tokens first.
        prefix: Class and register tokens; they stay as they are.
        grid: Patch rows and columns.

    Returns:
        (H, L', L'), rows still sum to 1; the same maps where the grid is small enough.
    """
    coarse = explorer_grid(grid)
    if coarse == grid:
        return attention
    step = -(-max(grid) // LARGEST_SIDE)
    rows, columns = (torch.arange(side, device=attention.device) // step for side in grid)
    block = torch.cat(
        [
            torch.arange(prefix, device=attention.device),
            prefix + (rows[:, None] * coarse[1] + columns).flatten(),
        ]
    )
    member = torch.nn.functional.one_hot(block).to(attention.dtype)  # (L, L')
    return (member / member.sum(0)).T @ attention @ member


@torch.inference_mode()
def explorer_maps(model: Any, pixels: torch.Tensor) -> Blobs:
    """Encode every layer's attention, image by image, so that one layer's maps are held at a time.

    Maps of grids beyond LARGEST_SIDE are pooled (see `pool_maps`): whole, they would take minutes and gigabytes.

    Args:
        model: A timm ViT, on the device it should run on; put into eval mode here.
        pixels: Normalised images (N, 3, S, S), moved to the model's device here.

    Returns:
        Per image and layer what `encode_layer` gives.
    """
    model.eval()
    device, prefix = next(model.parameters()).device, prefix_tokens(model)
    grid = (pixels.shape[-2] // patch_size(model), pixels.shape[-1] // patch_size(model))
    blobs: Blobs = []

    def visit(layer: int, q: torch.Tensor, k: torch.Tensor, scale: float) -> None:
        maps = pool_maps(attention_map(q, k, scale)[0].float(), prefix, grid)
        blobs[-1].append(encode_layer(maps.cpu().numpy(), prefix))
        progress.advance()

    layers = range(1, depth_of(model) + 1)
    with visiting(model, layers, visit), meter("maps to explore", len(pixels) * len(layers), "layers") as progress:
        for image in pixels:
            blobs.append([])
            model.forward_features(image[None].to(device))
    return blobs


def encode_layer(attention: npt.NDArray[np.floating], prefix: int) -> bytes:
    """Encode the heads' maps of one layer and their mean.

    Args:
        attention: (H, L, L), rows sum to 1, prefix tokens first.
        prefix: Class and register tokens.

    Returns:
        A zlib stream of: maps, L, T, P and levels (5 little-endian uint16); each row's largest attention to a patch
        (maps, L) and the attention to prefix tokens (maps, L, P), float32; the levels (maps, L, T), uint8.
    """
    maps = np.concatenate([attention, attention.mean(0, keepdims=True)]).astype("<f4")
    patches = maps[:, :, prefix:]
    scale = patches.max(2)
    share = np.divide(patches, scale[..., None], out=np.zeros_like(patches), where=scale[..., None] > 0)
    return _blob(scale, maps[:, :, :prefix], np.rint(share * LEVELS).astype(np.uint8))


def _blob(scale: npt.NDArray[np.float32], prefix: npt.NDArray[np.float32], levels: npt.NDArray[np.uint8]) -> bytes:
    header = _HEADER.pack(*levels.shape, prefix.shape[2], LEVELS)
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_FILTERED)  # few repeats: 2 % smaller so
    parts = (header, scale.tobytes(), prefix.tobytes(), levels.tobytes())
    return b"".join(map(packer.compress, parts)) + packer.flush()


def mean_only(blob: bytes) -> bytes:
    """Leave only the mean over heads in a blob."""
    scale, prefix, levels = open_layer(blob)
    return _blob(scale[-1:], prefix[-1:], levels[-1:])


def open_layer(blob: bytes) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Return what `encode_layer` put into a blob: row maxima, attention to prefix tokens, levels."""
    data = zlib.decompress(blob)
    count, queries, keys, prefix, _ = _HEADER.unpack_from(data)
    floats = np.frombuffer(data, "<f4", count * queries * (1 + prefix), _HEADER.size)
    scale, rest = np.split(floats, [count * queries])
    levels = np.frombuffer(data, np.uint8, offset=_HEADER.size + floats.nbytes)
    shape = (count, queries)
    return scale.reshape(shape), rest.reshape(*shape, prefix), levels.reshape(*shape, keys)


def fit_budget(
    images: Sequence[ExplorerImage], models: Sequence[ExplorerModel], budget_bytes: int
) -> tuple[list[ExplorerImage], list[ExplorerModel], int, list[str]]:
    """Leave out single heads, of the last images first, then images, until the maps fit; head means stay.

    Args:
        images: All of them.
        models: With maps of all images.
        budget_bytes: For the maps as they stand in the page (base64).

    Returns:
        The images and models to show, for how many images the single heads are kept, and a sentence for each thing
        left out. The head means of one image always stay.
    """
    means = [
        replace(m, maps={v: [[mean_only(blob) for blob in image] for image in blobs] for v, blobs in m.maps.items()})
        for m in models
    ]
    count = whole = len(images)

    def size() -> int:
        full = sum(_page_bytes(model, 0, whole) for model in models)
        return full + sum(_page_bytes(model, whole, count) for model in means)

    notes = []
    while whole and size() > budget_bytes:
        whole -= 1
    while count > 1 and size() > budget_bytes:
        count -= 1
    over = f"more would take over {budget_bytes / 1e6:.3g} MB."
    if count < len(images):
        notes.append(f"The explorer shows {count} of {len(images)} images: the maps of {over}")
    if whole < count:
        those = f"{whole} of {count} images" if whole else "no image"
        notes.append(f"The explorer shows single heads on {those}, elsewhere the mean over heads: the maps of {over}")
    if size() > budget_bytes:
        notes.append(f"The explorer's maps take {size() / 1e6:.3g} MB even so.")
    kept = [
        replace(full, maps={v: full.maps[v][:whole] + mean.maps[v][whole:count] for v in full.maps})
        for full, mean in zip(models, means, strict=True)
    ]
    return list(images[:count]), kept, whole, notes


def _page_bytes(model: ExplorerModel, first: int, last: int) -> int:
    """Size of the maps of some images in base64."""
    return sum(4 * -(-len(blob) // 3) for blobs in model.maps.values() for image in blobs[first:last] for blob in image)


def render_explorer(
    images: Sequence[ExplorerImage], models: Sequence[ExplorerModel], *, budget_bytes: int
) -> tuple[Markup, list[str]]:
    """Render the explorer as an HTML fragment that needs nothing from elsewhere; a page holds one of them.

    Args:
        images: At least one; all with the same variants.
        models: At least one, with maps of all images in all variants.
        budget_bytes: For the maps; see `fit_budget`.

    Returns:
        The fragment, and what was left out of it, in sentences that it also shows.
    """
    images, models, whole, notes = fit_budget(images, models, budget_bytes)
    variants = list(images[0].pictures)
    data = {
        "images": [{"name": image.name, "start": _brightest(image, models[0].grid)} for image in images],
        "variants": variants,
        "headImages": whole,  # of the others only the mean over heads is there
        "models": [
            {
                "name": m.name,
                "group": m.group,
                "grid": list(m.grid),
                "classToken": m.class_token,
                "registers": m.registers,
                "heads": list(m.heads),
                "patterns": list(m.patterns),
                "chosen": m.chosen,
            }
            for m in models
        ],
        "inferno": np.rint(matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(int).ravel().tolist(),
    }
    blobs = {
        f"{model_number}/{variant}/{image_number}/{layer}": base64.b64encode(blob).decode("ascii")
        for model_number, model in enumerate(models)
        for variant in variants
        for image_number, layers in enumerate(model.maps[variant])
        for layer, blob in enumerate(layers, start=1)
    }
    thumbnails = [
        {"name": image.name, "pictures": {v: data_uri(_rgb(image.pictures[v]), PICTURE_SIDE) for v in variants}}
        for image in images
    ]
    fragment = page_template("unip.analysis", "explorer.html.j2").render(
        thumbnails=thumbnails,
        variants=variants,
        models=[f"{model.name} ({model.group})" for model in models],
        class_token=any(model.class_token for model in models),
        notes=notes,
        colours=PATTERN_COLOURS,
        levels=LEVELS,
        blobs=blobs,
        data=Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")),  # no tag can end the script
        script=Markup(files("unip.analysis").joinpath("explorer.js").read_text(encoding="utf-8")),
    )
    return Markup(fragment), notes


def _brightest(image: ExplorerImage, grid: tuple[int, int]) -> list[float]:
    """Centre of the brightest patch as shares of width and height: the first query."""
    picture = next(iter(image.pictures.values()))
    small = Image.fromarray(picture).convert("L").resize((grid[1], grid[0]), Image.Resampling.BOX)
    row, column = divmod(int(np.asarray(small).argmax()), grid[1])
    return [(column + 0.5) / grid[1], (row + 0.5) / grid[0]]


def _rgb(picture: Picture) -> Picture:
    return np.repeat(picture[..., None], 3, 2) if picture.ndim == 2 else picture
