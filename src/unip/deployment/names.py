"""What the results of each image are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unip.data.images.files import list_images
from unip.deployment.config import PredictConfig
from unip.errors import UnipError
from unip.paths import is_dir, resolve


def name_outputs(locations: Sequence[Path], out: Path) -> dict[Path, str]:
    """Give every image of files and folders a name for its results, none of them twice.

    Images within ``out`` (results of an earlier call) are left out, and an image that is named twice counts once.

    Args:
        locations: Image files and folders.
        out: Where results go.

    Returns:
        For each image the path of its results below ``masks/`` and the like, without a suffix.

    Raises:
        UnipError: A location is missing or holds no image.
    """
    names: dict[Path, str] = {}
    taken: set[str] = set()
    seen: set[Path] = set()
    for location in locations:
        for path in list_images(location):
            real = resolve(path)
            if real in seen or real.is_relative_to(resolve(out)):
                continue
            seen.add(real)
            stem = path.relative_to(location).with_suffix("") if is_dir(location) else Path(path.stem)
            name, number = stem.as_posix(), 1
            while name.casefold() in taken:  # some file systems do not tell cases apart
                number += 1
                name = f"{stem.as_posix()}-{number}"
            taken.add(name.casefold())
            names[path] = name
    if not names:
        raise UnipError(f"all images lie in the output folder {out}", "Choose another --out.")
    return names


def result_files(name: str, config: PredictConfig) -> dict[str, str]:
    """Return the files of one image's results, in the output folder, by what they hold."""
    suffix = {"jpeg": ".jpg", "png": ".png"}[config.overlay_format]
    overlay = {"overlay": f"overlays/{name}{suffix}"} if config.overlays else {}
    probabilities = {"probabilities": f"probabilities/{name}.npz"} if config.probabilities else {}
    return {"mask": f"masks/{name}.png", **overlay, **probabilities}
