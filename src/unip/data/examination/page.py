"""The page of `unip doctor`: one HTML file that needs no other."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from PIL import Image, ImageDraw

from unip.data.examination.advice import window_of
from unip.data.examination.likeness import ALIKE, NAMES, UNLIKE
from unip.data.examination.records import DoctorResult, FixedDefects, FrameMeasures
from unip.data.examination.symptoms import SYMPTOMS
from unip.data.images.config import Conversion
from unip.data.images.decoding import Pixels, Pixels8, read_samples, to_image8, to_rgb8
from unip.data.manifests.sources import printable
from unip.errors import UnipError
from unip.pages import data_uri, page_template

WIDTH = 300  # pixels of a picture
LARGE = 480  # of a picture with marks
SHOWN = 6  # frames at the top
WORST = 4  # frames of a symptom
MARKED = 40  # dead pixels that are circled
RED = (255, 64, 64)


def render_page(folder: Path, result: DoctorResult, radiometric: bool) -> str:
    """Return the page; pictures are read again, a few for each symptom."""
    picture = functools.cache(functools.partial(_picture, radiometric=radiometric))

    def shown(path: str) -> dict[str, str]:
        return {"name": printable(os.path.basename(path)), "path": printable(path), "image": picture(path)}

    places = np.unique(np.linspace(0, len(result.frames) - 1, SHOWN).round().astype(int))
    symptoms = []
    for one in result.symptoms:
        paths = [] if one.kind in ("unreadable", "mixed", "overlay", "border") else one.frames[:WORST]
        symptoms.append({"symptom": one, "meaning": SYMPTOMS[one.kind], "frames": [shown(path) for path in paths]})
    return page_template("unip.data.examination", "doctor.html.j2").render(
        folder=printable(str(folder)),
        result=result,
        numbers=result.numbers,
        sizes=sorted({f"{one.width}×{one.height}" for one in result.frames}),
        frames=[shown(result.frames[place].path) for place in places],
        symptoms=symptoms,
        cameras=[_camera(camera, result.frames, radiometric) for camera in result.cameras],
        medians=_medians(result.frames),
        likeness=result.likeness,
        features=NAMES,
        limits=(ALIKE, UNLIKE),
        conversions=_conversions(result, radiometric),
        labels=result.labels,
        coded=_coded,
    )


def _coded(text: str) -> Markup:
    """Return a text in which `words` are shown as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _picture(path: str, *, radiometric: bool) -> str:
    image = _samples(path, radiometric)
    return "" if image is None else data_uri(_rgb(image), WIDTH)


def _samples(path: str, radiometric: bool) -> Pixels | None:
    try:
        return read_samples(path, Conversion(radiometric=radiometric))
    except UnipError:
        return None  # it is gone by now


def _rgb(image: Pixels) -> Pixels8:
    return np.ascontiguousarray(to_rgb8(to_image8(image)))


def _camera(camera: FixedDefects, frames: Sequence[FrameMeasures], radiometric: bool) -> dict[str, Any]:
    """Draw what is fixed into the first frame of a camera."""
    size = (camera.width, camera.height)
    path = next((one.path for one in frames if one.folder == camera.folder and (one.width, one.height) == size), "")
    marked = ""
    if camera.overlays or camera.dead or any(camera.border):
        image = _samples(path, radiometric)
        marked = "" if image is None else data_uri(_mark(_rgb(image), camera), LARGE)
    return {"camera": camera, "folder": printable(camera.folder), "image": marked}


def _mark(image: Pixels8, camera: FixedDefects) -> Pixels8:
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    line = max(1, round(picture.width / LARGE))
    for box in camera.overlays:
        corners = (box.x - 3, box.y - 3, box.x + box.width + 2, box.y + box.height + 2)
        pen.rectangle(corners, outline=RED, width=line)
    for x, y in camera.dead[:MARKED]:
        reach = 5 * line
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), outline=RED, width=line)
    top, right, bottom, left = camera.border
    if any(camera.border):
        pen.rectangle((left, top, picture.width - right - 1, picture.height - bottom - 1), outline=RED, width=line)
    found: npt.NDArray[np.uint8] = np.array(picture)
    return found


def _medians(frames: Sequence[FrameMeasures]) -> list[tuple[str, str]]:
    """Return the measures of the median frame, in words."""

    def median(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.median(known)) if known else None

    noise, width = median([one.noise for one in frames]), median([one.edge_width for one in frames])
    blocks, stripes = median([one.blockiness for one in frames]), median([one.stripes for one in frames])
    clipped = median([one.clipped for one in frames])
    return [
        ("noise", "not told" if noise is None else f"{noise:.1f} levels"),
        ("edges rise over", "no edges" if width is None else f"{width:.1f} pixels"),
        ("stripes", f"{stripes:.1f} levels"),
        ("JPEG squares", f"{blocks:.1f}"),
        ("clipped", f"{clipped:.1%}"),
    ]


def _conversions(result: DoctorResult, radiometric: bool) -> list[dict[str, Any]]:
    """Draw the middle frame by the advised conversion and by the alternatives."""
    one = result.frames[len(result.frames) // 2]
    advised = result.conversion.conversion
    found = []
    for name, conversion in _alternatives(result).items():
        try:
            image: Pixels8 = to_image8(read_samples(one.path, conversion), conversion)
        except UnipError:
            continue  # a palette that this frame has not, or a package that is missing
        uri = data_uri(to_rgb8(np.ascontiguousarray(image)), WIDTH)
        found.append({"name": name, "image": uri, "advised": conversion == advised})
    return found


def _alternatives(result: DoctorResult) -> dict[str, Conversion]:
    advised = result.conversion.conversion
    if result.numbers.stored_bits == 8:
        choices = {"as stored": Conversion(), "--polarity black-hot": Conversion(polarity="black-hot")}
        if result.palettes:
            choices |= {
                "--palette invert": Conversion(palette="invert"),
                "--palette invert --polarity black-hot": Conversion(palette="invert", polarity="black-hot"),
            }
        if result.radiometric:
            choices |= {
                "--radiometric": Conversion(radiometric=True),
                "--radiometric --conversion plateau": Conversion(radiometric=True, method="plateau"),
            }
        return choices
    more = {"radiometric": advised.radiometric}
    low, high = window_of(result.frames)
    return {
        "--conversion percentile": Conversion(**more),
        "--conversion minmax": Conversion(method="minmax", **more),
        "--conversion plateau": Conversion(method="plateau", **more),
        f"--window {low:.5g} {high:.5g}": Conversion(method="window", window=(low, high), **more),
    }
