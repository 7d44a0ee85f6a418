"""What the stored numbers are: counts, temperatures or a picture for people, and how many bits of them are real."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from unip.data.examination.records import FrameMeasures, Kind, Numbers, Sample

Used = npt.NDArray[np.bool_]

BITS: dict[Sample, int] = {"uint8": 8, "uint16": 16, "float32": 32}
KELVIN = (180.0, 700.0)  # medians that are taken for Kelvin
CELSIUS = (-80.0, 180.0)  # for degrees Celsius
CENTIKELVIN = (24_000.0, 38_000.0)  # 16-bit medians that are taken for hundredths of a Kelvin: -33 to 107 degrees
MOST_CENTIKELVIN_SPAN = 15_000.0  # between the percentiles of one frame
PICTURE_LEVELS = 256  # values that a picture of 8 bits in a file of 16 has at most


def numbers_of(frames: Sequence[FrameMeasures], used: Mapping[Sample, Used]) -> Numbers:
    """Tell what the samples are, of the sample type that most frames have.

    Args:
        frames: One at least.
        used: Which values occur in all frames together: ``(256,)`` or ``(65536,)`` for integers.
    """
    sample = Counter(one.sample for one in frames).most_common(1)[0][0]
    members = [one for one in frames if one.sample == sample]
    if sample == "float32":
        return _floats(members)
    return _picture(members) if sample == "uint8" else _wide(members, used["uint16"])


def _make(members: Sequence[FrameMeasures], kind: Kind, why: str, unit: str, detail: str, **more: int) -> Numbers:
    return Numbers(
        kind=kind,
        why=why,
        stored_bits=BITS[members[0].sample],
        real_bits=more.get("real_bits"),
        step=more.get("step", 1),
        used=more.get("used", 0),
        unit=unit,
        minimum=min(one.minimum for one in members),
        maximum=max(one.maximum for one in members),
        detail=detail,
    )


def _floats(members: Sequence[FrameMeasures]) -> Numbers:
    middle = float(np.median([one.median for one in members]))
    low, high = min(one.minimum for one in members), max(one.maximum for one in members)
    span = f"from {low:.4g} to {high:.4g}"
    if any(one.maker == "FLIR" for one in members):
        return _make(members, "temperatures", "Kelvin, from radiometric FLIR files.", "K", f"Values {span}.")
    if low >= 0 and high <= 1:
        why = "Floats from 0 to 1: counts that were scaled, by an unknown rule."
        return _make(members, "counts", why, "counts", "Give counts or temperatures if you have them.")
    if KELVIN[0] <= middle <= KELVIN[1]:
        why = f"Floats with a median of {middle:.0f}: Kelvin, by their size."
        return _make(members, "temperatures", why, "K", f"Values {span}.")
    if CELSIUS[0] <= middle <= CELSIUS[1]:
        why = f"Floats with a median of {middle:.0f}: degrees Celsius, by their size. A window needs the same unit."
        return _make(members, "temperatures", why, "°C", f"Values {span}.")
    why = f"Floats with a median of {middle:.4g}: too large or small for temperatures."
    return _make(members, "counts", why, "counts", f"Values {span}.")


def _picture(members: Sequence[FrameMeasures]) -> Numbers:
    present = [max(1.0, (1 - one.empty) * (one.span + 1)) for one in members]
    levels = float(np.median(present))
    empty = float(np.median([one.empty for one in members]))
    bits = max(1, int(np.ceil(np.log2(levels))))
    detail = f"The median frame has about {levels:.0f} of the 256 levels."
    if empty > 0.02:
        detail += f" Between its darkest and brightest {empty:.0%} have no pixel: fewer levels were stretched."
    palettes = {one.palette for one in members if one.palette}
    why = "8-bit files: the camera's gain control has turned its counts into a picture."
    if palettes:
        why = f"8-bit files in the colours of a palette ({', '.join(sorted(palettes))}): pictures for people."
    makers = sorted({one.maker for one in members if one.maker})
    if makers:
        why = f"The pictures of radiometric {' and '.join(makers)} files, which hold measurements beside them."
    return _make(members, "preview", why, "levels", detail, real_bits=bits, used=round(levels))


def _wide(members: Sequence[FrameMeasures], used: Used) -> Numbers:
    values = np.flatnonzero(used)
    step = int(np.gcd.reduce(np.diff(values))) if len(values) > 1 else 1
    base = int(values[0]) if values[0] % step else 0
    bits = max(1, int((values[-1] - base) // step).bit_length())
    more = {"real_bits": bits, "step": step, "used": len(values)}
    middle = float(np.median([one.median for one in members]))
    spans = [one.high - one.low for one in members]
    if len(values) <= PICTURE_LEVELS and step > 1:
        why = f"16-bit files with {len(values)} values, {step} apart: a picture of 8 bits in a file of 16."
        return _make(members, "preview", why, "levels", "Nothing is gained over 8-bit files.", **more)
    shifted = f", all {step} apart (the values were multiplied)" if step > 1 else ""
    detail = (
        f"{bits} of 16 bits are used: values {values[0]} to {values[-1]}{shifted}. "
        f"The median frame spans {np.median(spans):.0f} between its 0.5 and 99.5 percentiles."
    )
    if CENTIKELVIN[0] <= middle <= CENTIKELVIN[1] and max(spans) <= MOST_CENTIKELVIN_SPAN and step == 1:
        celsius = middle / 100 - 273.15
        why = (
            f"16-bit values around {middle:.0f}: hundredths of a Kelvin ({celsius:.0f} °C), if the camera writes "
            "temperatures; counts otherwise. Its manual says which."
        )
        return _make(members, "temperatures", why, "0.01 K", detail, **more)
    return _make(members, "counts", "16-bit files with the sensor's counts.", "counts", detail, **more)
