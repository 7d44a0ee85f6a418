"""The files of one image's results; runs in threads or processes beside the model, and needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from unip.data.images.orientation import save_options
from unip.deployment.config import PredictConfig
from unip.deployment.result import Result
from unip.outputs import writing

JPEG_QUALITY = 90
JPEG_MAX_SIDE = 65_500  # pixels that the format can have
PNG_LEVEL = 1  # of compression; the usual 6 takes four times as long for files that are 6 % smaller


@dataclass(frozen=True)
class Prediction:
    """What was written for an image.

    Attributes:
        image: The image.
        files: Its results in the output folder by what they hold.
        shares: Each class's share of the pixels.
        scale: By what it was resized for the model.
        windows: How many windows it was segmented in.
        engine: What ran it.
        unknown: The share of pixels that the model is not sure enough of; None: no risk was given.
    """

    image: Path
    files: dict[str, str]
    shares: dict[str, float]
    scale: float
    windows: int
    engine: str
    unknown: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Return what predictions.json says of it."""
        unknown = {} if self.unknown is None else {"unknown": self.unknown}
        how = {"scale": round(self.scale, 6), "windows": self.windows, "engine": self.engine}
        return {"image": str(self.image), **self.files, **how, "shares": self.shares, **unknown}


@dataclass(frozen=True)
class Writer:
    """Writes the results of images.

    Attributes:
        out: The output folder.
        alpha: Strength of the overlay's colours.
    """

    out: Path
    alpha: float

    @classmethod
    def of(cls, config: PredictConfig) -> Writer:
        """Return what writes the results that are wanted."""
        return cls(config.out, config.alpha)

    def write(self, result: Result, files: dict[str, str]) -> Prediction:
        """Write one image's results; the mask has the image's EXIF orientation, the overlay is turned by it.

        Args:
            result: Of an image file.
            files: Those to write, see :func:`unip.deployment.names.result_files`.
        """
        assert result.path is not None
        with writing(self.out / files["mask"]) as temporary:
            result.mask_image().save(temporary, **save_options(result.orientation))
        if "overlay" in files:
            with writing(self.out / files["overlay"]) as temporary:
                save_picture(result.plot(alpha=self.alpha), temporary)
        if "probabilities" in files:
            with writing(self.out / files["probabilities"]) as temporary:
                np.savez_compressed(temporary, probabilities=result.probabilities.astype(np.float16))
        shares = {
            name: round(float(share), 6)
            for name, share in zip(result.classes.names, result.counts / result.mask.size, strict=True)
        }
        unknown = None if result.risk is None else round(result.unknown_share, 6)
        return Prediction(result.path, files, shares, result.scale, result.windows, result.engine, unknown)


def weight(result: Result) -> int:
    """Return the bytes of a result."""
    arrays = (result.mask, result.image, result.found_confidence, result.found_probabilities, result.given_kelvin)
    return sum(each.nbytes for each in arrays if each is not None)


def without_rest(result: Result) -> Result:
    """Return a result without what :meth:`Writer.write` has no use for, since it may travel to a process."""
    return replace(result, found_confidence=None)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Save a picture for people, fast; a JPEG of one that is too long for the format becomes smaller."""
    if path.suffix == ".png":
        picture.save(path, compress_level=PNG_LEVEL)
        return
    picture.thumbnail((JPEG_MAX_SIDE, JPEG_MAX_SIDE))
    picture.save(path, quality=JPEG_QUALITY, subsampling=0)  # outlines keep their colour
