from __future__ import annotations

import numpy as np
import pytest

from unip.data.synthetic.sensor import MAX_COUNTS, Sensor, agc, draw_sensor, expose
from unip.data.synthetic.weather import CELSIUS, brightness, draw_weather, radiance

QUIET = Sensor(blur=0.3, netd=0.0, column=0.0, row=0.0, pixel=0.0, gain=0.0, shading=0.0)


def test_radiance_is_planck_and_invertible() -> None:
    temperature = np.linspace(200.0, 400.0, 50)
    h, c, k, wavelength = 6.62607015e-34, 299792458.0, 1.380649e-23, 10.5e-6
    planck = 1 / (np.exp(h * c / (wavelength * k * temperature)) - 1)
    assert np.allclose(radiance(temperature), planck, rtol=1e-6)
    assert np.allclose(brightness(radiance(temperature)), temperature, rtol=1e-12)


def test_counts_rise_with_temperature_and_fit_14_bits() -> None:
    rng = np.random.default_rng(0)
    temperature = np.linspace(200.0, CELSIUS + 90, 400)
    for _ in range(20):
        counts = draw_sensor(rng).counts(temperature)
        assert (np.diff(counts) > 0).all()
        assert counts.min() >= 0 and counts.max() <= MAX_COUNTS
    sensor = Sensor(responsivity=40.0)
    slope = float(sensor.counts(300.5) - sensor.counts(299.5))
    assert slope == pytest.approx(40.0, rel=1e-3)


def test_a_quiet_sensor_keeps_the_order_of_temperatures() -> None:
    steps = np.repeat(np.linspace(270, 320, 8, dtype=np.float32), 12)[None].repeat(40, axis=0)
    frame = expose(steps, QUIET, np.random.default_rng(0))
    centres = frame[20, 6::12].astype(int)
    assert (np.diff(centres) > 0).all()
    assert np.abs(centres - QUIET.counts(steps[20, 6::12].astype(np.float64))).max() <= 1.5


def test_noise_has_the_stated_size() -> None:
    flat = np.full((200, 200), 300.0, dtype=np.float32)
    sensor = Sensor(responsivity=100.0, netd=0.05, column=0.0, row=0.0, pixel=0.0, gain=0.0, shading=0.0)
    assert expose(flat, sensor, np.random.default_rng(1)).std() / 100.0 == pytest.approx(0.05, rel=0.05)
    striped = Sensor(responsivity=100.0, netd=0.0, column=0.5, row=0.0, pixel=0.0, gain=0.0, shading=0.0)
    frame = expose(flat, striped, np.random.default_rng(1)).astype(float)
    assert frame.std(axis=0).max() < 1 < frame.mean(axis=0).std()


def test_agc() -> None:
    ramp = np.linspace(1000, 3000, 64 * 64).reshape(64, 64).astype(np.uint16)
    linear = agc(ramp, plateau=0.0)
    assert linear.min() == 0 and linear.max() == 255
    assert (np.diff(linear.ravel().astype(int)) >= 0).all()
    assert np.abs(linear.astype(float) - np.linspace(0, 255, 64 * 64).reshape(64, 64)).max() < 4
    # Two narrow humps far apart: equalising gives both more levels than stretching.
    rng = np.random.default_rng(0)
    humps = np.concatenate([rng.normal(2000, 30, 5000), rng.normal(6000, 30, 5000)]).astype(np.uint16).reshape(100, 100)
    low = humps < 4000
    assert agc(humps, plateau=1.0)[low].std() > 2 * agc(humps, plateau=0.0)[low].std()
    assert set(np.unique(agc(np.full((8, 8), 4000, dtype=np.uint16), plateau=0.0))) <= {127, 128}


def test_detail_raises_local_contrast() -> None:
    y, x = np.mgrid[:96, :96]
    frame = (3000 + 10 * x + 40 * ((x // 2 + y // 2) % 2)).astype(np.uint16)
    flat, crisp = agc(frame, plateau=0.0), agc(frame, plateau=0.0, detail=1.0)
    step = (slice(20, 76), slice(20, 76))
    assert np.abs(np.diff(crisp[step].astype(int))).mean() > 1.4 * np.abs(np.diff(flat[step].astype(int))).mean()


def test_weather_is_consistent() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        weather = draw_weather(rng)
        assert np.linalg.norm(weather.sun) == pytest.approx(1.0)
        assert weather.sunshine == 0 or not weather.night
        elevation = np.linspace(0.05, 1, 20)
        clear = brightness(weather.sky_radiance(elevation, 0.0))
        closed = brightness(weather.sky_radiance(elevation, 1.0))
        assert (np.diff(clear) < 0).all() and (clear < weather.air).all()
        assert closed[-1] > clear[-1]
