"""Counts, temperatures and colours become the levels of `to_image8`, in a graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.deployment.export.frames import make_frame
from unip.data.images.config import Conversion
from unip.data.images.decoding import to_image8
from unip.data.images.nodata import without_nodata
from unip.deployment.export.levels import to_levels

CONVERSIONS = {
    "percentile": Conversion(),
    "wide percentiles": Conversion(percentiles=(0, 100)),
    "percentiles of two decimals": Conversion(percentiles=(1.25, 97.75)),
    "minmax": Conversion(method="minmax"),
    "plateau": Conversion(method="plateau"),
    "high plateau": Conversion(method="plateau", plateau=0.05, percentiles=(2, 98)),
    "window": Conversion(method="window", window=(290, 310)),
    "black-hot": Conversion(polarity="black-hot"),
    "nodata": Conversion(nodata=0),
    "nodata with digits": Conversion(nodata=-3.4028235e38),
}


def spoilt(kind: str) -> dict[str, np.ndarray]:
    """Frames with what sensors and files do to them."""
    plain = make_frame((61, 83), kind)
    border, wild, few = plain.copy(), plain.copy(), np.full_like(plain, plain.flat[0])
    border[:, :4], wild[0, 0] = 0, 65535 if kind == "int32" else 1e6
    few[20:30] += 7
    found = {"plain": plain, "border": border, "wild": wild, "constant": np.full_like(plain, 7), "two values": few}
    found |= {f"{h}x{w}": make_frame((h, w), kind) for h, w in ((1, 1), (1, 2), (3, 5), (17, 19))}
    if kind == "int32":
        rng = np.random.default_rng(0)
        found["all counts"] = rng.integers(0, 65536, (61, 83), dtype=np.int32)
        found["24 bits"] = rng.integers(0, 2**24, (61, 83), dtype=np.int32)
        found["one in most"] = np.where(rng.random((61, 83)) < 0.02, plain, 7000).astype(np.int32)
        return found
    missing, whole = plain.copy(), np.rint(30 * plain)
    missing[:2], missing[-1, -1] = np.nan, np.inf
    holes = whole.copy()
    holes[:2] = np.nan
    least = plain.copy()
    least[5] = -3.4028235e38
    return found | {
        "missing": missing,
        "whole": whole,
        "whole with holes": holes,
        "nothing": np.full_like(plain, np.nan),
        "least float": least,
    }


@pytest.mark.parametrize("kind", ["int32", "float32"])
@pytest.mark.parametrize("name", CONVERSIONS)
def test_frames_of_more_than_8_bits(name, kind):
    conversion = CONVERSIONS[name]
    for what, frame in spoilt(kind).items():
        if conversion.nodata is not None and (what == "constant" or "x" in what):
            continue
        if what == "least float" and conversion.nodata != -3.4028235e38:
            continue  # of samples without a measurement that nobody declared, nothing is left to compare
        samples = frame if conversion.nodata is None else without_nodata(frame, conversion.nodata)
        expected = to_image8(samples, conversion).astype(np.float32)
        (found,) = to_levels(torch.from_numpy(frame), conversion, kind).numpy()
        differences = np.abs(found - expected)
        assert differences.max() <= 1, what
        if (
            frame.size > 1000 and what != "two values"
        ):  # else the levels of a plateau may lie halfway between whole ones
            assert (differences > 0).mean() <= 0.01, what


def test_most_percentiles_are_exact():
    """Levels differ only where float32 rounds a sample that lies between two of them."""
    differences = [
        to_levels(torch.from_numpy(frame), Conversion(), kind)[0].numpy() != to_image8(frame)
        for kind in ("int32", "float32")
        for frame in (make_frame((61, 83), kind, seed) for seed in range(20))
    ]
    assert np.mean(differences) < 1e-3


@pytest.mark.parametrize("polarity", ["white-hot", "black-hot"])
def test_frames_of_8_bits(polarity):
    conversion = Conversion(polarity=polarity, method="plateau")
    grey = make_frame((31, 40), "uint8")
    colour = np.random.default_rng(0).integers(0, 256, (31, 40, 3), dtype=np.uint8)
    lossy = np.repeat(grey[..., None], 3, axis=2)
    lossy[..., 0] = np.minimum(lossy[..., 0], 253) + np.arange(40) % 3
    for frame in (grey, colour, lossy):
        expected = np.atleast_3d(to_image8(frame, conversion)).transpose(2, 0, 1)
        found = to_levels(torch.from_numpy(frame), conversion, "uint8").numpy()
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))
