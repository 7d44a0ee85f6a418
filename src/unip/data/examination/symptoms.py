"""What is wrong, told from the measures. docs/lab-notes.md says how limits were chosen, docs/doctor.md the rates."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unip.data.examination.records import FixedDefects, FrameMeasures, Symptom, Unreadable
from unip.data.manifests.hamming import near_groups

WIDESPREAD = 0.2  # of the frames, from which on it is a matter of the camera rather than of single frames
NAMED_FRAMES = 24  # frames that a symptom names
NEAR_BITS = 4  # of the perceptual hash, as in `unip data dedup`
MANY_NEAR = 0.1  # of the frames that look like another, from which on it is said

MAX_NOISE = 3.0  # levels
MAX_IMPULSES = 5e-4  # of the pixels
MAX_STRIPES = 1.8  # levels
BLUR_WEIGHTS = (1.0, 0.7, 0.65)  # of smoothness, smear and the width of edges
MAX_BLUR = 4.05
MAX_USUAL_BLUR = 3.94  # of the median frame of a camera, above which all its frames are blurred
MAX_EASED_BLUR = 3.6  # of the other frames of such a camera
MAX_BLOCKINESS = 1.3
MAX_QUANTISED = 0.95
MIN_SPAN = 120.0  # levels
MIN_SPAN_INSIDE = 205.0  # levels, of a frame that reaches neither end of the range
MAX_UNUSED = 20.0  # levels at both ends; video of limited range has 16 and 20
MAX_EASED_LACK = -12.0  # levels that a frame lacks, where the median frame of its camera lacks some
MAX_EMPTY = 0.25  # of the levels; lossy WebP and video leave 14 % empty
MAX_CLIPPED = 0.05  # of the pixels
MANY_FRAMES = 8  # of a camera, from which on its median frame says something
NOT_TOLD = float("-inf")  # how bad a frame is that a measure is missing of
MAX_COLOURED = 0.3  # of the pixels, above which it is a picture in colours rather than coloured marks
MIN_COLOURED = 0.0005

MAX_PATTERN = 1.0  # levels
PATTERN_SHARES = (0.35, 1.5)  # of the median noise of single frames, between which it is the same in all of them
MAX_FIXED_STRIPES = 1.3  # levels

#: In the order of reports: kind -> what it means.
SYMPTOMS = {
    "unreadable": "files that cannot be read",
    "frozen": "neighbouring frames are equal, pixel for pixel: the shutter was closed or the stream stood still",
    "dead pixels": "pixels that stand out from all neighbours, or do not follow the scene",
    "stripes": "columns or rows with offsets of their own",
    "fixed pattern": "an offset of each pixel that stays while the scene changes",
    "noise": "white noise, beyond what cameras leave in a scene of usual contrast",
    "overlay": "something burnt in: a logo, a colour bar, text, a crosshair",
    "border": "rows or columns at the edge that never change: bars, or what a correction of distortion left",
    "coloured marks": "coloured pixels in grey frames",
    "colour": "colours of no known palette",
    "blur": "edges rise slowly: out of focus, moved, or enlarged from fewer pixels",
    "compression": "the squares of a strong JPEG compression",
    "saturated": "many pixels at the ends of the range",
    "low contrast": "the scene takes up a small part of the 256 levels, or reaches neither black nor white: a wide "
    "gain control, fog, rain",
    "empty levels": "levels that no pixel has: few levels were stretched to many",
    "near-duplicates": "frames that look like another one",
    "mixed": "frames of several sizes or sample types",
}

ADVICE = {
    "unreadable": "Copy them again, or remove them.",
    "frozen": "Remove the copies (`unip data dedup --radius -1`), and do not split them over train and test.",
    "dead pixels": "Have the camera replace them (bad pixel map), or interpolate them; then evaluate with "
    "`--corruption dead_pixels`.",
    "stripes": "Run the camera's shutter correction (NUC) more often; evaluate with `--corruption stripes`.",
    "fixed pattern": "Run the camera's shutter correction (NUC) before recording; evaluate with "
    "`--corruption fixed_pattern`.",
    "noise": "Average frames, or train with `--corrupt 0.3`; evaluate with `--corruption temporal_noise`.",
    "overlay": "Switch it off in the camera, crop it away, or label it as ignore: a model learns it as part of the "
    "scene.",
    "border": "Crop it away, or label it as ignore.",
    "coloured marks": "Switch the overlay off in the camera; `--palette invert` turns the frames into grey.",
    "colour": "If these are infrared frames in a palette, name it (`--palette NAME`); if they are photos, keep them "
    "apart.",
    "blur": "Check focus and the size the camera really has; evaluate with `--corruption defocus motion resolution`.",
    "compression": "Record with less compression, best as 16-bit PNG or TIFF; evaluate with `--corruption jpeg`.",
    "saturated": "Record counts instead of pictures, or a wider range: what is clipped is lost.",
    "low contrast": "Record counts instead of pictures, or another gain control: levels that are missing are lost.",
    "empty levels": "Record counts instead of pictures: stretching brings no levels back.",
    "near-duplicates": "Keep one of each (`unip data dedup`), and keep neighbours in one split (`unip data split`).",
    "mixed": "Judge the folders of different cameras one by one.",
}

Badness = Callable[[FrameMeasures], float]


@dataclass(frozen=True)
class FrameRule:
    """When one frame shows a symptom, and how that is written.

    Attributes:
        kind: A key of ``SYMPTOMS``.
        badness: How bad a frame is.
        limit: It shows the symptom above this.
        text: How the number is written.
        number: What is written; None: the badness.
        usual: If the median frame of a camera is above this, the camera is taken to have the defect; None: not judged.
        eased: The limit for the frames of such a camera.
    """

    kind: str
    badness: Badness
    limit: float
    text: str
    number: Badness | None = None
    usual: float | None = None
    eased: float = 0.0

    def describe(self, shown: Sequence[FrameMeasures]) -> str:
        """Write the median of the frames that show it; and the worst, unless another number says how bad they are."""
        numbers = [(self.number or self.badness)(one) for one in shown]
        middle = self.text.format(np.median(numbers))
        if len(shown) == 1:
            return middle
        worst = "" if self.number else f", at worst {self.text.format(max(numbers))}"
        return f"{middle} (median of these){worst}"


def _blur(one: FrameMeasures) -> float:
    measures = (one.smoothness, one.smear, one.edge_width)
    known = [measure for measure in measures if measure is not None]
    return float(np.dot(BLUR_WEIGHTS, known)) if len(known) == len(measures) else NOT_TOLD


def _compression(one: FrameMeasures) -> float:
    """Return how far the worse of two measures is beyond its limit."""
    return max(one.blockiness / MAX_BLOCKINESS, one.quantised / MAX_QUANTISED)


def _lack_of_contrast(one: FrameMeasures) -> float:
    """Return how many levels more a frame would need, at least; below 0 it has enough.

    Gain control drives at least one end of a frame to the end of the range. What takes contrast away afterwards
    leaves levels free at both.
    """
    return max(MIN_SPAN - one.span, min(one.unused - MAX_UNUSED, MIN_SPAN_INSIDE - one.span))


RULES = (
    FrameRule("dead pixels", lambda one: one.impulses, MAX_IMPULSES, "{:.2%} of the pixels stand out"),
    FrameRule("stripes", lambda one: one.stripes, MAX_STRIPES, "offsets of {:.1f} levels"),
    FrameRule("noise", lambda one: one.noise or 0.0, MAX_NOISE, "sigma {:.1f} levels"),
    FrameRule(
        "blur",
        _blur,
        MAX_BLUR,
        "edges are {:.1f} pixels wide",
        number=lambda one: one.edge_width or 0.0,
        usual=MAX_USUAL_BLUR,
        eased=MAX_EASED_BLUR,
    ),
    FrameRule(
        "compression", _compression, 1.0, "{:.0%} of the fine waves are missing", number=lambda one: one.quantised
    ),
    FrameRule("saturated", lambda one: one.clipped, MAX_CLIPPED, "{:.0%} of the pixels"),
    FrameRule(
        "low contrast",
        _lack_of_contrast,
        0.0,
        "{:.0f} of 256 levels between darkest and brightest",
        number=lambda one: one.span,
        usual=0.0,
        eased=MAX_EASED_LACK,
    ),
    FrameRule("empty levels", lambda one: one.empty, MAX_EMPTY, "{:.0%} of the levels between have no pixel"),
    FrameRule("colour", lambda one: one.coloured, MAX_COLOURED, "{:.0%} of the pixels"),
)


def kinds_of(frames: Sequence[FrameMeasures]) -> list[set[str]]:
    """Return what each of some frames shows, the fixed defects of cameras left out."""
    found = [{"coloured marks"} if MIN_COLOURED < one.coloured <= MAX_COLOURED else set[str]() for one in frames]
    for rule in RULES:
        for kinds, one, limit in zip(found, frames, _limits(rule, frames), strict=True):
            if rule.badness(one) > limit:
                kinds.add(rule.kind)
    return found


def _limits(rule: FrameRule, frames: Sequence[FrameMeasures]) -> list[float]:
    """Return the limit of each frame: what most frames of a camera show is looked for less strictly in the others."""
    if rule.usual is None:
        return [rule.limit] * len(frames)
    cameras = defaultdict(list)
    for one in frames:
        cameras[_camera(one)].append(rule.badness(one))
    bad = {key for key, each in cameras.items() if len(each) >= MANY_FRAMES and np.median(each) > rule.usual}
    return [rule.eased if _camera(one) in bad else rule.limit for one in frames]


def _camera(one: FrameMeasures) -> tuple[str, int, int, str]:
    return one.folder, one.height, one.width, one.sample


def find_symptoms(
    frames: Sequence[FrameMeasures], cameras: Sequence[FixedDefects], unreadable: Sequence[Unreadable] = ()
) -> tuple[Symptom, ...]:
    """Tell what is wrong with frames, in the order of their names, and with their cameras; the widespread first."""
    found = [_of_frames(rule, frames, cameras) for rule in RULES]
    found += [_marks(frames), _frozen(frames), _near(frames), _mixed(frames), *_of_cameras(frames, cameras)]
    if unreadable:
        detail = f"{unreadable[0].path}: {unreadable[0].problem}"
        paths = tuple(one.path for one in unreadable)
        found.append(_symptom("unreadable", paths, len(frames) + len(paths), detail))
    places = {kind: place for place, kind in enumerate(SYMPTOMS)}
    merged: dict[str, Symptom] = {}
    for one in found:
        if one is not None and (one.kind not in merged or one.widespread > merged[one.kind].widespread):
            merged[one.kind] = one
    return tuple(sorted(merged.values(), key=lambda one: (not one.widespread, places[one.kind])))


def _symptom(kind: str, paths: Sequence[str], of: int, detail: str, widespread: bool | None = None) -> Symptom:
    many = len(paths) >= WIDESPREAD * of if widespread is None else widespread
    return Symptom(kind, many, len(paths), detail, ADVICE[kind], tuple(paths[:NAMED_FRAMES]))


def _of_frames(rule: FrameRule, frames: Sequence[FrameMeasures], cameras: Sequence[FixedDefects]) -> Symptom | None:
    limits = _limits(rule, frames)
    shown = [one for one, limit in zip(frames, limits, strict=True) if rule.badness(one) > limit]
    shown.sort(key=rule.badness, reverse=True)
    if not shown:
        return None
    if rule.kind == "noise" and any(_is_all_pattern(camera, frames) for camera in cameras):
        return None  # the same offsets in every frame are no noise
    return _symptom(rule.kind, [one.path for one in shown], len(frames), rule.describe(shown))


def _marks(frames: Sequence[FrameMeasures]) -> Symptom | None:
    shown = [one for one in frames if MIN_COLOURED < one.coloured <= MAX_COLOURED]
    shown.sort(key=lambda one: -one.coloured)
    if not shown:
        return None
    return _symptom(
        "coloured marks", [one.path for one in shown], len(frames), f"{shown[0].coloured:.1%} of the pixels"
    )


def _frozen(frames: Sequence[FrameMeasures]) -> Symptom | None:
    """Find frames that equal the one before them in the same folder."""
    pairs = itertools.pairwise(frames)
    shown = [later.path for one, later in pairs if one.digest == later.digest and one.folder == later.folder]
    return _symptom("frozen", shown, len(frames), f"{len(shown)} equal the frame before them") if shown else None


def _near(frames: Sequence[FrameMeasures]) -> Symptom | None:
    shown = near_duplicates(frames)
    if len(shown) < MANY_NEAR * len(frames) or not shown:
        return None
    detail = f"{len(shown)} of {len(frames)} frames look like an earlier one ({NEAR_BITS} bits of the perceptual hash)"
    return _symptom("near-duplicates", shown, len(frames), detail)


def near_duplicates(frames: Sequence[FrameMeasures]) -> list[str]:
    """Return the frames that look like an earlier one."""
    if not frames:
        return []
    groups = near_groups(np.array([int(one.phash, 16) for one in frames], dtype=np.uint64), NEAR_BITS)
    return [one.path for place, one in enumerate(frames) if groups[place] != place]


def _mixed(frames: Sequence[FrameMeasures]) -> Symptom | None:
    sizes = {(one.width, one.height, one.sample) for one in frames}
    if len(sizes) < 2:
        return None
    text = ", ".join(f"{width}x{height} {sample}" for width, height, sample in sorted(sizes)[:4])
    return _symptom("mixed", [], len(frames), f"{len(sizes)} kinds: {text}", widespread=True)


def _is_pattern(camera: FixedDefects, frames: Sequence[FrameMeasures]) -> bool:
    """Say whether a good part of what looks like noise in most single frames is the same in all of them."""
    low, high = (share * _usual_noise(camera, frames) for share in PATTERN_SHARES)
    return camera.pattern > MAX_PATTERN and low < camera.pattern < high


def _is_all_pattern(camera: FixedDefects, frames: Sequence[FrameMeasures]) -> bool:
    """Say whether the pattern is so large that the noise without it would be no symptom."""
    return _usual_noise(camera, frames) ** 2 - camera.pattern**2 < MAX_NOISE**2 and _is_pattern(camera, frames)


def _usual_noise(camera: FixedDefects, frames: Sequence[FrameMeasures]) -> float:
    sigmas = [one.noise for one in frames if one.noise is not None and one.folder == camera.folder]
    return float(np.median(sigmas or [0.0]))


def _of_cameras(frames: Sequence[FrameMeasures], cameras: Sequence[FixedDefects]) -> list[Symptom]:
    found = []
    for camera in cameras:
        members = [one.path for one in frames if one.folder == camera.folder and one.width == camera.width]

        def add(kind: str, detail: str, members: list[str] = members) -> None:
            found.append(_symptom(kind, members, len(members), detail, widespread=True))

        if camera.dead_pixels or camera.dead_lines:
            lines = f", {', '.join(camera.dead_lines[:6])}" if camera.dead_lines else ""
            pixels = "1 pixel" if camera.dead_pixels == 1 else f"{camera.dead_pixels} pixels"
            add("dead pixels", f"{pixels} at the same place in all frames{lines}")
        if _is_pattern(camera, frames):
            add("fixed pattern", f"sigma {camera.pattern:.1f} levels, the same in all frames")
        if camera.stripes > MAX_FIXED_STRIPES:
            add("stripes", f"offsets of {camera.stripes:.1f} levels, the same in all frames")
        if any(camera.border):
            sides = zip(("top", "right", "bottom", "left"), camera.border, strict=True)
            add("border", ", ".join(f"{count} pixels at the {side}" for side, count in sides if count))
        if camera.overlays:
            boxes = ", ".join(f"{b.width}x{b.height} at {b.x},{b.y}" for b in camera.overlays[:4])
            add("overlay", f"{len(camera.overlays)} places that never change: {boxes}")
    return found
