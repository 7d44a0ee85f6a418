"""`unip predict`: segment images with a model that carries all it needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field
from torch import Tensor

from unip.config import Config, verb
from unip.data.images.conversion import Reading
from unip.data.images.decoding import list_images, read_image8, to_rgb8
from unip.data.labelled.classes import Classes
from unip.data.sampling.frames import Frame, Frames
from unip.errors import UnipError
from unip.outputs import output_folder, write_json, writing
from unip.progress import meter
from unip.runtime.device import Device, Precision, choose_device, choose_precision
from unip.runtime.workers import threaded
from unip.segmentation.inference import Window, WindowBatch, Workers, segment_frames
from unip.segmentation.overlay import add_legend, draw_overlay, palette_image, tinted
from unip.segmentation.storage import load_segmenter, model_folder

log = logging.getLogger(__name__)

PENDING_WRITES = 16  # frames held in memory while their files are being written


class PredictConfig(Config):
    """What to segment with what."""

    model: Path = Field(description="Folder of a fine-tuning run, or its model/.")
    images: tuple[Path, ...] = Field(min_length=1, description="Image files and folders of images.")
    out: Path = Field(Path("predictions"), description="Folder for masks/, overlays/ and probabilities/.")
    probabilities: bool = Field(False, description="Also write float16 class probabilities (C, H, W) as .npz.")
    alpha: float = Field(0.5, ge=0, le=1, description="Strength of the overlay's colours.")
    window: Window = "slide"
    batch_size: WindowBatch = "auto"
    device: Device = "auto"
    precision: Precision = "auto"
    workers: Workers = "auto"
    overwrite: bool = Field(False, description="Also replace results in out that were changed since.")
    dry_run: bool = Field(False, description="Check model and images, print what would happen, write nothing.")


@dataclass(frozen=True)
class PredictResult:
    """The folder with the results, and the mask written for each image."""

    out: Path
    masks: dict[Path, Path]


@verb(PredictConfig)
def predict(config: PredictConfig) -> PredictResult | None:
    """Segment images; write indexed masks, overlays and, if wanted, probabilities.

    ``masks/NAME.png`` holds class ids (and shows the classes' colours), ``overlays/NAME.png`` the tinted image with a
    legend, ``probabilities/NAME.npz`` the array ``probabilities``; ``predictions.json`` lists them with each class's
    share of the pixels. NAME is the path within the given folder, with ``-2``, ``-3`` ... where names would meet.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: The model or an image folder is missing; or, after all others were written, some images are damaged.
    """
    model_folder(config.model)  # refuses what is none
    names = name_outputs(config.images, config.out)
    with output_folder(config.out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check("predictions.json", *(file for name in names.values() for file in places(name, config).values()))
        return _predict(config, names)


def places(name: str, config: PredictConfig) -> dict[str, str]:
    """Return the files of one image's results, in the output folder, by what they hold."""
    files = {"mask": f"masks/{name}.png", "overlay": f"overlays/{name}.png"}
    return files | ({"probabilities": f"probabilities/{name}.npz"} if config.probabilities else {})


def _predict(config: PredictConfig, names: dict[Path, str]) -> PredictResult | None:
    segmenter = load_segmenter(config.model)
    classes = segmenter.spec.classes
    device = choose_device(config.device)
    dtype = choose_precision(config.precision, device)
    log.info(
        f"{len(names)} images, classes {', '.join(classes.names)}; on {device} in {str(dtype).removeprefix('torch.')}"
    )
    reading = segmenter.spec.reading
    log.info(f"images of more than 8 bits, if any, become grey as in training: {reading.describe()}")
    if config.dry_run:
        check_images(list(names), reading)
        first = next(iter(names.values()))
        log.info(
            f"dry run: would write {len(names)} results such as {config.out / 'masks' / first}.png; nothing was written"
        )
        return None

    paths = list(names)
    records: list[dict[str, Any]] = []
    problems: list[str] = []
    pending: list[Future[dict[str, Any]]] = []
    frames = Frames(paths, segmenter.spec.short_side, reading)
    results = segment_frames(
        segmenter,
        frames,
        device=device,
        dtype=dtype,
        window=config.window,
        batch_size=config.batch_size,
        workers=config.workers,
    )
    with ThreadPoolExecutor(4) as pool, meter("predicting", len(paths), "images") as progress:
        for frame, logits in results:
            path = paths[frame.index]
            if frame.problem is not None:
                problems.append(frame.problem.what)
            else:
                job = _arrays(logits, config)
                pending.append(pool.submit(write_prediction, frame, path, names[path], *job, classes, config))
            if len(pending) >= PENDING_WRITES:
                records.append(pending.pop(0).result())
            progress.advance(note=f"{len(problems)} unreadable" if problems else "")
        records += [job.result() for job in pending]
    described = {"names": classes.names, "palette": classes.palette}
    write_json(
        config.out / "predictions.json",
        {
            "model": str(config.model),
            "classes": described,
            "reading": reading.model_dump(mode="json"),
            "images": records,
            "unreadable": problems,
        },
    )
    log.info(f"{len(records)} images segmented; results are in {config.out}")
    if problems:
        raise unreadable(problems, len(paths), "All others were segmented.", rest=", listed in predictions.json")
    return PredictResult(config.out, {Path(r["image"]): config.out / r["mask"] for r in records})


def check_images(paths: Sequence[Path], reading: Reading) -> None:
    """Read every image, as prediction will.

    Raises:
        UnipError: Some cannot be read.
    """

    def problem(path: Path) -> str:
        try:
            read_image8(path, reading)
        except UnipError as error:
            return error.what
        return ""

    problems = [what for what in threaded(problem, paths, "checking images") if what]
    if problems:
        raise unreadable(problems, len(paths), "Remove or replace them; prediction would leave them out.")


def unreadable(problems: Sequence[str], images: int, fix: str, *, rest: str = "") -> UnipError:
    """Say which of so many images could not be read, the first 20 by name, and where to find the ``rest``."""
    listed = "\n".join(f"  {problem}" for problem in problems[:20])
    more = f"\n  and {len(problems) - 20} more{rest}" if len(problems) > 20 else ""
    return UnipError(f"{len(problems)} of {images} images could not be read:\n{listed}{more}", fix)


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
            real = path.resolve()
            if real in seen or real.is_relative_to(out.resolve()):
                continue
            seen.add(real)
            stem = path.relative_to(location).with_suffix("") if location.is_dir() else Path(path.stem)
            name, number = stem.as_posix(), 1
            while name.casefold() in taken:  # some file systems do not tell cases apart
                number += 1
                name = f"{stem.as_posix()}-{number}"
            taken.add(name.casefold())
            names[path] = name
    if not names:
        raise UnipError(f"all images lie in the output folder {out}", "Choose another --out.")
    return names


def write_prediction(
    frame: Frame,
    path: Path,
    name: str,
    mask: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float16] | None,
    classes: Classes,
    config: PredictConfig,
) -> dict[str, Any]:
    """Write one image's results; return what predictions.json says about it."""
    counts = np.bincount(mask.ravel(), minlength=len(classes.names))
    overlay = draw_overlay(to_rgb8(frame.image), mask, classes, alpha=config.alpha)
    files = places(name, config)
    legend = Image.fromarray(add_legend(overlay, classes, tinted(counts, classes)))
    for kind, picture in {"mask": palette_image(mask, classes), "overlay": legend}.items():
        with writing(config.out / files[kind]) as temporary:
            picture.save(temporary)
    if probabilities is not None:
        with writing(config.out / files["probabilities"]) as temporary:
            np.savez_compressed(temporary, probabilities=probabilities)
    shares = {name: round(float(share), 6) for name, share in zip(classes.names, counts / mask.size, strict=True)}
    return {"image": str(path), **files, "shares": shares}


def _arrays(logits: Tensor, config: PredictConfig) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16] | None]:
    mask = logits.argmax(0).byte().cpu().numpy()
    return mask, logits.softmax(0).half().cpu().numpy() if config.probabilities else None
