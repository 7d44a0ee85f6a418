from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unip.attention import feature_measures
from unip.attention.feature_measures import CKA_SIDE, cka, high_frequency_amplitude, token_gram


def test_high_frequency_amplitude_equals_the_fourier_sum_in_float64():
    maps = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    found = high_frequency_amplitude(maps)
    for image, value in zip(maps.double().numpy(), found.tolist(), strict=True):
        wanted = []
        for channel in image:
            high = sum(channel[y, x] * (-1) ** (y + x) for y in range(6) for x in range(4))
            wanted.append(math.log(abs(high)) - math.log(abs(channel.sum())))
        assert value == pytest.approx(np.mean(wanted), abs=1e-3)


def test_a_chequerboard_is_all_high_frequency_and_a_flat_map_has_none():
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    board = ((-1.0) ** (y + x))[None, None]
    flat = torch.ones(1, 1, 8, 8)
    assert high_frequency_amplitude(board).item() > 15
    assert high_frequency_amplitude(flat).item() < -15
    assert high_frequency_amplitude(board + flat).item() == pytest.approx(0, abs=1e-5)


def test_on_an_odd_grid_the_highest_frequency_there_is_counts():
    maps = torch.randn(1, 2, 5, 7, generator=torch.Generator().manual_seed(1))
    spectrum = np.abs(np.fft.fft2(maps.double().numpy()))
    wanted = np.mean(np.log(spectrum[..., 2, 3]) - np.log(spectrum[..., 0, 0]))
    assert high_frequency_amplitude(maps).item() == pytest.approx(wanted, abs=1e-4)


def as_maps(tokens: torch.Tensor) -> torch.Tensor:
    """Tokens (B, T, C) as maps (B, C, T, 1), cut so that no side is thinned."""
    sides = next((n, tokens.shape[1] // n) for n in range(10, 0, -1) if tokens.shape[1] % n == 0)
    return tokens.mT.reshape(len(tokens), -1, *sides)


def hsic_float64(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimator as Song et al. write it: traces and sums of Gram matrices with an empty diagonal."""
    n = len(x)
    k, g = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(g, 0)
    one = np.ones(n)
    total = (
        np.trace(k @ g) + (one @ k @ one) * (one @ g @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ g @ one)
    )
    return total / (n * (n - 3))


def test_cka_equals_the_unbiased_estimator_in_float64():
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(2, 12, 5, generator=generator)
    layers = [shared + s * torch.randn(2, 12, 5, generator=generator) + 3 for s in (0.1, 1.0, 4.0)]
    found = cka(torch.stack([token_gram(as_maps(layer)) for layer in layers], dim=1))
    assert found.shape == (2, 3, 3)
    for image in range(2):
        x = [layer[image].double().numpy() for layer in layers]
        for i in range(3):
            for j in range(3):
                wanted = hsic_float64(x[i], x[j]) / math.sqrt(hsic_float64(x[i], x[i]) * hsic_float64(x[j], x[j]))
                assert found[image, i, j].item() == pytest.approx(wanted, abs=1e-5)


def test_cka_of_rotated_and_scaled_features_is_1_and_of_unrelated_ones_about_0():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 100, 64, generator=generator)
    rotation = torch.linalg.qr(torch.randn(64, 64, generator=generator)).Q
    other = torch.randn(1, 100, 64, generator=generator)
    found = cka(torch.stack([token_gram(as_maps(t)) for t in (x, 7 * x @ rotation - 2, other)], dim=1))[0]
    assert found[0, 1].item() == pytest.approx(1, abs=1e-4)
    assert abs(found[0, 2].item()) < 0.1  # the plain estimator says 0.39 here
    assert found.diagonal().tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_features_that_are_all_alike_have_no_cka():
    found = cka(torch.stack([token_gram(torch.ones(1, 3, 3, 3)), token_gram(as_maps(torch.eye(9)[None]))], dim=1))
    assert math.isnan(found[0, 0, 1].item())


def test_larger_grids_are_thinned_evenly_in_both_directions(monkeypatch):
    assert token_gram(torch.randn(1, 2, CKA_SIDE + 1, 3)).shape == (1, 3 * CKA_SIDE, 3 * CKA_SIDE)
    maps = torch.randn(1, 4, 9, 5, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(feature_measures, "CKA_SIDE", 3)
    torch.testing.assert_close(token_gram(maps), token_gram(maps[:, :, [0, 4, 8]][..., [0, 2, 4]]))
