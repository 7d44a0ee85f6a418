from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unip.analysis.records import AnalysedModel, ModelRecord, Summary, Thresholds
from unip.analysis.summaries import difference, model_record
from unip.attention.measuring import LayerMeasures, ModelMeasures


def measured(shift: float = 0.0, nmi: tuple[float, ...] = (0.4, 0.1, 0.02)) -> ModelMeasures:
    generator = torch.Generator().manual_seed(0)
    layers = {
        number: LayerMeasures(
            {
                "nmi": value + shift + 0.001 * torch.randn(5, 3, generator=generator),
                "distance": torch.rand(5, 3, generator=generator),
            },
            {"high_frequency": torch.randn(5, generator=generator) + shift},
        )
        for number, value in enumerate(nmi, start=1)
    }
    return ModelMeasures(layers, torch.rand(5, 3, 3, generator=generator))


ABOUT = AnalysedModel("m", "m", "other", None, 32, (2, 2), class_token=False, registers=0)


def recorded(found: ModelMeasures) -> ModelRecord:
    return model_record(found, ABOUT, "images", Thresholds(local_above=0.2, global_below=0.05, target_nmi=0.09))


def test_means_deviations_and_heads_in_float64():
    found = measured()
    for record in recorded(found).layers:
        layer = found.layers[record.layer]
        heads = layer.heads["distance"].double().numpy()
        assert record.heads == 3
        assert record.measures["distance"].mean == pytest.approx(heads.mean())
        assert record.measures["distance"].std == pytest.approx(heads.mean(1).std())
        assert record.measures["distance"].per_head == pytest.approx(heads.mean(0).tolist())
        features = layer.features["high_frequency"].double().numpy()
        assert record.measures["high_frequency"].mean == pytest.approx(features.mean())
        assert record.measures["high_frequency"].per_head == []


def test_a_record_names_patterns_and_chooses():
    found = measured()
    record = recorded(found)
    assert record.model == "m"
    assert [layer.pattern for layer in record.layers] == ["local", "hybrid", "global"]
    assert record.choice.layer == 2
    np.testing.assert_allclose(record.cka, found.cka.double().mean(0), atol=1e-6)
    np.testing.assert_allclose(record.cka_std, found.cka.double().std(0, correction=0), atol=1e-6)
    local = recorded(measured(nmi=(0.1, 0.2, 0.4)))
    assert local.choice.layer is None
    assert "no layer is hybrid" in local.choice.warnings


def test_no_value_where_none_is_finite():
    found = measured()
    found.layers[1].heads["distance"][:] = math.nan
    found.cka[:, 0, 1] = math.nan
    record = recorded(found)
    distance = record.layers[0].measures["distance"]
    assert distance == Summary(None, None, [None] * 3)
    assert record.cka[0][1] is None


def test_differences_are_taken_pair_by_pair():
    (first, *_) = difference(measured(), measured(shift=0.05))
    assert first.measures["nmi"].mean == pytest.approx(0.05, abs=1e-6)
    assert first.measures["nmi"].std == pytest.approx(0, abs=1e-6)  # though both vary over images
    assert first.measures["distance"].mean == 0
