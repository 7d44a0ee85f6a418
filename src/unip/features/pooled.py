"""One feature vector an image: the mean of a backbone's patch tokens, for finding images that show the same."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from unip.data.images.config import Conversion
from unip.data.images.decoding import Pixels8, read_grey8, to_rgb8
from unip.errors import UnipError
from unip.opening import open_regular
from unip.outputs import writing
from unip.paths import is_file
from unip.progress import meter
from unip.runtime.workers import map_threads
from unip.vit.backbone import Backbone
from unip.vit.shape import prefix_tokens

CHUNK = 512  # images of one cached file
BATCH = 32


def pooled_features(
    backbone: Backbone, images: Sequence[tuple[bytes, str | None]], cache: Path | None = None
) -> npt.NDArray[np.float32]:
    """Compute the pooled features of many images.

    Each image is turned grey by its conversion, resized to the backbone's square and normalised as the backbone says;
    the last layer's patch tokens are averaged and the mean is divided by its length.

    Args:
        backbone: From :func:`unip.vit.backbone.load_backbone`; it is moved to a GPU if there is one.
        images: Path and conversion (JSON, None for the default) of each.
        cache: A folder for finished parts, which a repeated call does not compute again. It must belong to these images
            in this order and to this backbone.

    Returns:
        ``(N, D)`` float32 of length 1.

    Raises:
        UnipError: An image cannot be read.
    """
    parts: list[npt.NDArray[np.float32]] = []
    backbone.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    with meter("features", len(images), "images") as progress:
        for low in range(0, len(images), CHUNK):
            chosen = images[low : low + CHUNK]
            kept = cache / f"{low:09d}.npy" if cache else None
            if kept and is_file(kept):
                with open_regular(kept) as file:
                    parts.append(np.load(file, allow_pickle=False))
            else:
                parts.append(_compute(backbone, chosen))
                if kept:
                    with writing(kept) as temporary, temporary.open("wb") as file:
                        np.save(file, parts[-1])
            progress.advance(len(chosen))
    return np.concatenate(parts)


@torch.inference_mode()
def _compute(backbone: Backbone, images: Sequence[tuple[bytes, str | None]]) -> npt.NDArray[np.float32]:
    device = next(backbone.model.parameters()).device
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    side = (backbone.input_size,) * 2
    found = []
    for low in range(0, len(images), BATCH):
        pixels = list(map_threads(_read, images[low : low + BATCH], "reading images", quiet=True))
        floats = (torch.from_numpy(image).permute(2, 0, 1)[None].float() for image in pixels)
        batch = torch.cat([F.interpolate(image, side, mode="bilinear", antialias=True) for image in floats])
        tokens = backbone.model.forward_features((batch.to(device) / 255 - mean) / std)  # type: ignore[operator]
        found.append(F.normalize(tokens[:, prefix_tokens(backbone.model) :].float().mean(1), dim=-1).cpu())
    values: npt.NDArray[np.float32] = torch.cat(found).numpy()
    return values


def _read(image: tuple[bytes, str | None]) -> Pixels8:
    path, conversion = image
    try:
        return to_rgb8(read_grey8(os.fsdecode(path), Conversion.from_json(conversion)))
    except UnipError as error:
        raise UnipError(f"{error.what} (it could be read a moment ago)", error.fix) from error
