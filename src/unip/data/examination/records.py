"""The records of an examination; `doctor.json` holds the same fields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unip.data.images.config import Conversion
from unip.data.images.radiometric import Maker

Kind = Literal["counts", "temperatures", "preview"]
Sample = Literal["uint8", "uint16", "float32"]


@dataclass(frozen=True)
class Features:
    """Statistics of a frame as a model sees it, in grey levels 0..255, that data sets are compared by.

    Attributes:
        level_05: 5 % of the pixels are darker.
        level_25: 25 % of the pixels are darker.
        level_50: The median.
        level_75: 75 % of the pixels are darker.
        level_95: 95 % of the pixels are darker.
        contrast: Standard deviation.
        gradient: Mean difference of neighbouring pixels.
        slope: By how many octaves of variance detail falls with each octave of frequency; large: smooth.
        side: Short side as a power of two.
    """

    level_05: float
    level_25: float
    level_50: float
    level_75: float
    level_95: float
    contrast: float
    gradient: float
    slope: float
    side: float


@dataclass(frozen=True)
class FrameMeasures:
    """What one frame told. Levels: grey, 0..255 between black and white of an 8-bit file, else between percentiles.

    Attributes:
        path: The file.
        folder: The folder that holds it.
        width: Pixels.
        height: Pixels.
        sample: Type of the stored samples.
        maker: Whose radiometric file it is, None if it is none.
        palette: Name of the palette in whose colours it is; empty if it is grey or of none that is known.
        coloured: Share of pixels in colour, of a frame that is in no palette.
        minimum: Least stored sample.
        maximum: Largest stored sample.
        low: 0.5 % of the samples are lower.
        median: Of the samples.
        high: 99.5 % of the samples are lower.
        hot: 99.9 % of the samples are lower.
        span: Levels between the 0.02 and 99.98 percentiles (8-bit files; 255 for others).
        unused: Levels between the end of the range and the nearest pixel, at the end where they are fewer (8-bit files;
            0 for others).
        empty: Share of the levels between the 0.5 and 99.5 percentiles that no pixel has (8-bit files; else 0).
        clipped: Share of the pixels at the ends of the range.
        noise: Sigma, levels; None where it cannot be told.
        impulses: Share of the pixels that stand out from all neighbours, by more than these differ from each other.
        stripes: Spread of the offsets of columns or rows, whichever is larger; levels.
        edge_width: Pixels over which the strongest edges rise; None without edges.
        smoothness: Octaves by which the mean squared difference grows from one pixel's distance to two; None where
            there is no detail.
        smear: How much of the detail is missing that movement would take away; None where it cannot be told.
        blockiness: Steps at the borders of JPEG's squares over the mean step.
        quantised: Share of the small waves in squares of 8x8 that is missing: 1 after strong JPEG compression.
        tilt: How much brighter the top is than the bottom, in standard deviations.
        phash: Perceptual hash, 16 hex digits.
        digest: Of the samples: equal for equal pixels.
        features: What likeness to known data is judged by.
    """

    path: str
    folder: str
    width: int
    height: int
    sample: Sample
    maker: Maker | None
    palette: str
    coloured: float
    minimum: float
    maximum: float
    low: float
    median: float
    high: float
    hot: float
    span: float
    unused: int
    empty: float
    clipped: float
    noise: float | None
    impulses: float
    stripes: float
    edge_width: float | None
    smoothness: float | None
    smear: float | None
    blockiness: float
    quantised: float
    tilt: float
    phash: str
    digest: str
    features: Features


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot be used, and why."""

    path: str
    problem: str


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class FixedDefects:
    """What stays in place while the scene changes, of the frames of one camera.

    Attributes:
        folder: Where the frames are; empty if they are of several folders.
        width: Pixels.
        height: Pixels.
        frames: How many were added up.
        told: Whether enough frames of a changing scene are there; else no dead pixel is listed, and of borders and
            overlays those that stay exactly as they are.
        reason: Why it cannot be told; empty if it can.
        dead: Positions ``(x, y)`` of dead pixels; as many as ``LISTED`` at most.
        dead_pixels: How many there are.
        dead_lines: Dead rows and columns, such as ``row 17``.
        pattern: Sigma of the fixed offsets of pixels, levels.
        stripes: Spread of the fixed offsets of columns or rows, levels.
        border: Rows and columns at top, right, bottom and left that never change.
        overlays: Where something is burnt in.
    """

    folder: str
    width: int
    height: int
    frames: int
    told: bool
    reason: str
    dead: tuple[tuple[int, int], ...] = ()
    dead_pixels: int = 0
    dead_lines: tuple[str, ...] = ()
    pattern: float = 0.0
    stripes: float = 0.0
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    overlays: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """What the stored numbers are.

    Attributes:
        kind: Counts, temperatures, or a picture for people.
        why: How that was told, in a sentence.
        stored_bits: Of a sample in the file.
        real_bits: That the values need, without what is constant or empty; None for floats.
        step: Distance of the values that occur (4: the lowest two bits are always 0).
        used: How many different values occur in the sample.
        unit: ``K``, ``°C``, ``0.01 K``, ``0.1 K``, ``counts`` or ``levels``.
        minimum: Least value in all frames.
        maximum: Largest value in all frames.
        detail: What that means, in a sentence.
    """

    kind: Kind
    why: str
    stored_bits: int
    real_bits: int | None
    step: int
    used: int
    unit: str
    minimum: float
    maximum: float
    detail: str


@dataclass(frozen=True)
class PolarityGuess:
    """White-hot or black-hot, as far as it can be known.

    Attributes:
        polarity: None where it cannot be told.
        certain: Whether it is known rather than guessed.
        why: In a sentence, with advice where nothing is known.
    """

    polarity: Literal["white-hot", "black-hot", "mixed"] | None
    certain: bool
    why: str


@dataclass(frozen=True)
class Likeness:
    """How far the frames are from data that models know.

    Attributes:
        data: Its name.
        distance: Root mean square of the robust z-scores of the features.
        words: What the distance means.
        scores: Robust z-score of each feature: (median here - median there) / spread there.
    """

    data: str
    distance: float
    words: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Symptom:
    """Something that is wrong.

    Attributes:
        kind: A key of ``SYMPTOMS``.
        widespread: Of the camera or of a good part of the frames, rather than of single ones.
        count: Frames that show it.
        detail: With the numbers.
        advice: What to do.
        frames: The worst first.
    """

    kind: str
    widespread: bool
    count: int
    detail: str
    advice: str
    frames: tuple[str, ...]


@dataclass(frozen=True)
class ConversionAdvice:
    """The conversion to 8 bit that is advised, why, and as options of the command line."""

    conversion: Conversion
    why: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """A command to type next, and what it is for; ``later``: it needs the labels or the model of a step before."""

    command: str
    why: str
    later: bool = False


@dataclass(frozen=True)
class DoctorResult:
    """What `unip doctor` found.

    Attributes:
        report: Where doctor.json is, or would be after a dry run.
        listed: Image files in the folder.
        frames: Those that were read.
        unreadable: Those that cannot be used.
        numbers: What the samples are.
        polarity: White-hot or black-hot.
        palettes: Frames by the name of their palette.
        radiometric: Frames by the maker of their radiometric format.
        cameras: Fixed defects of each camera (folder and size).
        near_duplicates: Frames that look like another one.
        symptoms: What is wrong, the widespread first.
        likeness: To each known data set, the nearest first.
        conversion: The advised one.
        labels: Where labels were found, as the value of ``--data``; None without.
        splits: The names of the splits there.
        steps: What to type next.
        notes: What else should be known.
    """

    report: Path
    listed: int
    frames: tuple[FrameMeasures, ...]
    unreadable: tuple[Unreadable, ...]
    numbers: Numbers
    polarity: PolarityGuess
    palettes: dict[str, int]
    radiometric: dict[str, int]
    cameras: tuple[FixedDefects, ...]
    near_duplicates: int
    symptoms: tuple[Symptom, ...]
    likeness: tuple[Likeness, ...]
    conversion: ConversionAdvice
    labels: str | None
    splits: tuple[str, ...]
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
