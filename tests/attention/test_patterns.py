from __future__ import annotations

import pytest

from unip.attention.patterns import choose_hybrid_layer, name_patterns
from unip.errors import UnipError

# Mean NMI by layer of two trained ViTs on infrared images: a supervised ViT-Tiny, and a DINOv2-like ViT-S/14.
SUPERVISED = [0.176, 0.384, 0.488, 0.247, 0.160, 0.114, 0.143, 0.157, 0.063, 0.045, 0.016, 0.014]
DINOV2 = [0.099, 0.380, 0.237, 0.381, 0.311, 0.259, 0.165, 0.153, 0.158, 0.140, 0.124, 0.154]


def test_patterns_run_from_local_over_hybrid_to_global():
    assert name_patterns(SUPERVISED) == ["local"] * 4 + ["hybrid"] * 5 + ["global"] * 3


def test_bands_can_be_moved():
    assert name_patterns(SUPERVISED, local_above=0.3, global_below=0.1)[3] == "hybrid"
    assert name_patterns(SUPERVISED, local_above=0.3, global_below=0.1)[8] == "global"


def test_chooses_the_nearest_layer_after_the_peak_and_says_how_clear_it_was():
    choice = choose_hybrid_layer(SUPERVISED)
    assert (choice.layer, choice.runner_up, choice.peak) == (6, 9, 3)
    assert choice.margin == pytest.approx(0.027 - 0.024)
    assert "near tie: layers 6 and 9 differ by 0.003" in choice.warnings[0]
    assert "layer 6 has the NMI (0.114) nearest to 0.09 after the peak at layer 3" in choice.reason


def test_a_layer_before_the_peak_is_not_hybrid_and_layers_can_be_excluded():
    assert choose_hybrid_layer(DINOV2).layer == 11
    choice = choose_hybrid_layer(DINOV2, exclude=(12, 11))
    assert (choice.layer, choice.runner_up) == (10, 8)
    assert choice.excluded == (11, 12)
    assert "layers 11, 12 excluded" in choice.reason


def test_another_target():
    assert choose_hybrid_layer(SUPERVISED, target=0.155).layer == 8


def test_warns_when_no_layer_is_hybrid():
    choice = choose_hybrid_layer([0.3, 0.6, 0.5, 0.4])
    assert choice.layer == 4
    assert "no layer is hybrid" in choice.warnings[0]


def test_one_candidate_has_no_runner_up():
    choice = choose_hybrid_layer([0.5, 0.09])
    assert (choice.layer, choice.runner_up, choice.margin, choice.warnings) == (2, None, None, ())


def test_errors():
    with pytest.raises(UnipError, match="NMI peaks at layer 3 of 3"):
        choose_hybrid_layer([0.1, 0.2, 0.3])
    with pytest.raises(UnipError, match="excluded layer 13 is out of range"):
        choose_hybrid_layer(SUPERVISED, exclude=(13,))
    with pytest.raises(UnipError, match="no layer was measured"):
        choose_hybrid_layer([])
