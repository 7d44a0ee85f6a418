from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from unip.features import logistic
from unip.features.logistic import fit_probe

CPU = torch.device("cpu")


def regression(rows=300, width=6) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that go together, and shares of three of four classes, one in ten rows without labels."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) + 3
    scores = tokens @ rng.normal(size=(width, 3)) + 2 * rng.gumbel(size=(rows, 3))
    shares = np.exp(scores - scores.max(1, keepdims=True)) * rng.uniform(0.2, 1, (rows, 1))
    shares = np.insert(shares, 1, 0.0, axis=1)  # class 1 never occurs
    shares[::10] = 0
    return tokens.astype(np.float16), shares.astype(np.float32)


def standardised(tokens: np.ndarray, shares: np.ndarray) -> np.ndarray:
    x, weight = tokens.astype(np.float64), shares.astype(np.float64).sum(1)
    mean = np.average(x, axis=0, weights=weight)
    return (x - mean) / np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))


def test_fit_is_that_of_sklearn(monkeypatch):
    monkeypatch.setattr(logistic, "GRADIENT_TOLERANCE", 1e-7)
    tokens, shares = regression()
    l2, kept = 1e-2, [0, 2, 3]
    z = standardised(tokens, shares)
    repeated, labels, weights = np.tile(z, (3, 1)), np.repeat(kept, len(z)), shares[:, kept].T.ravel().astype(float)
    there = weights > 0
    reference = LogisticRegression(C=1 / (l2 * weights.sum()), tol=1e-10, max_iter=2000)
    reference.fit(repeated[there], labels[there], weights[there])
    found = fit_probe(tokens, shares, l2, 500, CPU)
    assert found.classes.tolist() == kept
    np.testing.assert_allclose(found.weight.numpy(), reference.coef_.T, atol=1e-3)
    bias = found.bias.numpy() - found.bias.numpy().mean()
    np.testing.assert_allclose(bias, reference.intercept_ - reference.intercept_.mean(), atol=1e-3)


def test_fit_stops_at_the_optimum():
    """At the default precision, in float64: a gradient of nearly nothing."""
    tokens, shares = regression(2500)  # more than one part
    l2 = 1e-3
    found = fit_probe(tokens, shares, l2, 500, CPU)
    z = torch.from_numpy(standardised(tokens, shares))
    t = torch.from_numpy(shares[:, found.classes.numpy()]).double()
    weight, bias = (p.double().requires_grad_() for p in (found.weight, found.bias))
    loss = -(t * torch.log_softmax(z @ weight + bias, 1)).sum() / t.sum() + l2 / 2 * weight.square().sum()
    loss.backward()
    assert found.steps < 500
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 3e-4
    with torch.no_grad():
        scores = (torch.from_numpy(tokens).double() - found.mean) / found.scale @ weight + bias
        assert torch.allclose(scores, z @ weight + bias, atol=1e-4)


def test_tokens_without_labels_have_no_effect():
    tokens, shares = regression()
    damaged = tokens.copy()
    damaged[::10] = 500
    one, two = (fit_probe(x, shares, 1e-3, 100, CPU) for x in (tokens, damaged))
    assert torch.equal(one.weight, two.weight) and torch.equal(one.mean, two.mean)


def test_one_class_needs_no_training():
    tokens, shares = regression()
    shares[:, [0, 2]] = 0
    found = fit_probe(tokens, shares, 1e-3, 100, CPU)
    assert found.classes.tolist() == [3] and found.steps == 0 and not found.weight.any()
