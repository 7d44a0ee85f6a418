"""`unip predict`: segment images with a model that carries all it needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from unip.data.images.config import Conversion
from unip.data.images.decoding import to_image8, to_rgb8
from unip.data.images.orientation import as_shown, save_options
from unip.data.labelled.classes import Classes
from unip.data.labelled.outlines import look_at_picture
from unip.data.labelled.overlay import add_legend, draw_overlay, palette_image, tinted
from unip.data.labelled.pairs import read_one
from unip.data.sampling.frames import Frame, Frames
from unip.deployment.config import PredictConfig
from unip.deployment.names import result_files
from unip.errors import UnipError
from unip.outputs import write_json, writing
from unip.progress import meter
from unip.runtime.device import choose_device, choose_precision
from unip.runtime.workers import map_threads
from unip.segmentation.inference import segment_frames
from unip.segmentation.storage import load_segmenter
from unip.segmentation.training_images import ImageWatch

log = logging.getLogger(__name__)

PENDING_WRITES = 16  # frames held in memory while their files are being written


@dataclass(frozen=True)
class PredictResult:
    """The folder with the results, and the mask written for each image."""

    out: Path
    masks: dict[Path, Path]


@dataclass(frozen=True)
class Prediction:
    """The image, the files of its results in the output folder by what they hold, and each class's share of pixels."""

    image: Path
    files: dict[str, str]
    shares: dict[str, float]

    def to_dict(self) -> dict[str, object]:
        """Return what predictions.json says of it."""
        return {"image": str(self.image), **self.files, "shares": self.shares}


def segment_images(config: PredictConfig, names: dict[Path, str]) -> PredictResult | None:
    """Do what is left of :func:`unip.deployment.verbs.predict` once the paths are checked.

    Args:
        config: The settings.
        names: What the results of each image are called, see :func:`unip.deployment.names.name_outputs`.
    """
    segmenter = load_segmenter(config.model)
    classes = segmenter.spec.classes
    device = choose_device(config.device)
    dtype = choose_precision(config.precision, device)
    log.info(
        f"{len(names)} images, classes {', '.join(classes.names)}; on {device} in {str(dtype).removeprefix('torch.')}"
    )
    conversion = segmenter.spec.conversion.given(palette=config.palette, polarity=config.polarity, nodata=config.nodata)
    log.info(f"images of more than 8 bits, if any, become grey as in training: {conversion.describe()}")
    trained = segmenter.spec.images
    channel = None if trained is None else trained.channel
    if channel is not None:
        log.info(f"channel {channel + 1} of image files is read, as in training; of files with one channel, that one")
    if config.dry_run:
        check_images(list(names), conversion, channel)
        first = next(iter(names.values()))
        log.info(
            f"dry run: would write {len(names)} results such as {config.out / 'masks' / first}.png; nothing was written"
        )
        return None

    paths = list(names)
    records: list[Prediction] = []
    problems: list[str] = []
    pending: list[Future[Prediction]] = []
    frames = Frames(paths, segmenter.spec.short_side, conversion, channel=channel)
    watch = ImageWatch(trained)
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
                watch.look(frame, path)
                job = _arrays(logits, config)
                pending.append(pool.submit(write_prediction, frame, path, names[path], *job, classes, config))
            if len(pending) >= PENDING_WRITES:
                records.append(pending.pop(0).result())
            progress.advance(note=f"{len(problems)} unreadable" if problems else "")
        records += [job.result() for job in pending]
    watch.finish(len(paths))
    described = {"names": classes.names, "palette": classes.palette}
    write_json(
        config.out / "predictions.json",
        {
            "model": str(config.model),
            "classes": described,
            "conversion": conversion.model_dump(mode="json"),
            "images": [record.to_dict() for record in records],
            "unreadable": problems,
        },
    )
    log.info(f"{len(records)} images segmented; results are in {config.out}")
    if problems:
        fix = "All others were segmented." if records else "Nothing was segmented: give readable images."
        raise unreadable(problems, len(paths), fix, rest=", listed in predictions.json")
    return PredictResult(config.out, {found.image: config.out / found.files["mask"] for found in records})


def check_images(paths: Sequence[Path], conversion: Conversion, channel: int | None) -> None:
    """Read every image, as prediction will.

    Raises:
        UnipError: Some cannot be read.
    """

    def problem(path: Path) -> str:
        try:
            to_image8(read_one(path, conversion, channel), conversion)
        except UnipError as error:
            return error.what
        return ""

    problems = [what for what in map_threads(problem, paths, "checking images") if what]
    if problems:
        raise unreadable(problems, len(paths), "Remove or replace them; prediction would leave them out.")


def unreadable(problems: Sequence[str], images: int, fix: str, *, rest: str = "") -> UnipError:
    """Say which of so many images could not be read, the first 20 by name, and where to find the ``rest``."""
    listed = "\n".join(f"  {problem}" for problem in problems[:20])
    more = f"\n  and {len(problems) - 20} more{rest}" if len(problems) > 20 else ""
    return UnipError(f"{len(problems)} of {images} images could not be read:\n{listed}{more}", fix)


def write_prediction(
    frame: Frame,
    path: Path,
    name: str,
    mask: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float16] | None,
    classes: Classes,
    config: PredictConfig,
) -> Prediction:
    """Write one image's results; the mask has the image's EXIF orientation, the overlay is turned by it."""
    orientation = look_at_picture(path).orientation
    counts = np.bincount(mask.ravel(), minlength=len(classes.names))
    overlay = draw_overlay(to_rgb8(frame.image), mask, classes, alpha=config.alpha)
    files = result_files(name, config)
    legend = Image.fromarray(add_legend(as_shown(overlay, orientation), classes, tinted(counts, classes)))
    with writing(config.out / files["mask"]) as temporary:
        palette_image(mask, classes).save(temporary, **save_options(orientation))
    with writing(config.out / files["overlay"]) as temporary:
        legend.save(temporary)
    if probabilities is not None:
        with writing(config.out / files["probabilities"]) as temporary:
            np.savez_compressed(temporary, probabilities=probabilities)
    shares = {name: round(float(share), 6) for name, share in zip(classes.names, counts / mask.size, strict=True)}
    return Prediction(path, files, shares)


def _arrays(logits: Tensor, config: PredictConfig) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16] | None]:
    mask = logits.argmax(0).byte().cpu().numpy()
    return mask, logits.softmax(0).half().cpu().numpy() if config.probabilities else None
