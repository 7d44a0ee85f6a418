"""Analyses as `unip analyze` writes them, made up: a supervised model turns global, a masked-image one stays local."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from unip.analysis.groups import Group
from unip.analysis.records import (
    Analysis,
    DifferenceRecord,
    ImagesRecord,
    LayerDifference,
    LayerRecord,
    ModelRecord,
    NoLayer,
    PairRecord,
    Preprocessing,
    Summary,
    Thresholds,
)
from unip.attention.measuring import MEASURES
from unip.attention.patterns import LayerChoice, NoHybridLayer, choose_hybrid_layer, name_patterns
from unip.segmentation.probing import LayerProbes, LayerScores

NAMES = ("deit_tiny", "dino_small", "mae_base")
GROUPS: tuple[Group, ...] = ("supervised", "contrastive", "masked-image")
HEADS = (3, 6, 12)


def fake_analysis(
    models: int = 2, *, pair: bool = False, probe: bool = False, depths: tuple[int, ...] = (12, 12, 12)
) -> Analysis:
    """Make an analysis of one to three models."""
    records: list[ModelRecord] = []
    for index in range(models):
        shown = ("infrared", "visible") if pair else ("images",)
        of_model = [fake_record(index, depths[index], images) for images in shown]
        if probe:
            of_model[0] = replace(of_model[0], probe=_probe(of_model[0], np.random.default_rng(index)))
        records += of_model
    return Analysis(
        versions={},
        images=ImagesRecord(["frames"], count=64, of=221, seed=0, skipped=[]),
        pair=PairRecord(["visible"], unpaired=3) if pair else None,
        preprocessing=Preprocessing("squash", grey=True, normalization="model"),
        thresholds=Thresholds(local_above=0.2, global_below=0.05, target_nmi=0.09),
        models=records,
        differences=[_difference(*records[2 * n : 2 * n + 2]) for n in range(models)] if pair else [],
    )


def fake_record(index: int = 0, depth: int = 12, images: str = "images") -> ModelRecord:
    """Make one model's record."""
    seed = np.random.default_rng([index, images == "visible"])
    at = np.linspace(0, 1, depth)
    start, end = ((0.38, 0.02), (0.42, 0.05), (0.35, 0.24))[index]
    curve = np.where(
        at < 0.15, start * (0.6 + 2.6 * at), start - (start - end) * (np.maximum(at - 0.15, 0) / 0.85) ** 0.7
    )
    nmi = np.clip(curve + seed.normal(0, 0.008, depth) + 0.015 * (images == "visible"), 0.005, 0.9).tolist()
    distance = 1.5 + 6 * at ** (1 + index) - 0.4 * at * (images == "visible")
    entropy = 3.2 + (1.8 - 0.7 * index) * at + 0.1 * at * (images == "visible")
    means = {
        "nmi": nmi,
        "distance": distance.tolist(),
        "distance_share": (distance / (13 * math.sqrt(2))).tolist(),
        "entropy": entropy.tolist(),
        "entropy_share": (entropy / math.log(197)).tolist(),
        "class_share": (0.02 + (0.3 - 0.1 * index) * at**2).tolist(),
        "register_share": [0.0] * depth,
        "high_frequency": (-1.5 - (2 - 1.4 * index) * at + 0.2 * at * (images == "visible")).tolist(),
    }
    patterns = name_patterns(nmi)
    layers = [
        LayerRecord(
            layer,
            HEADS[index],
            patterns[layer - 1],
            {
                name: _values(means[name][layer - 1], 0 if name == "high_frequency" else HEADS[index], seed)
                for name in MEASURES
            },
        )
        for layer in range(1, depth + 1)
    ]
    choice: LayerChoice | NoLayer
    try:
        choice = choose_hybrid_layer(nmi)
    except NoHybridLayer as error:
        choice = NoLayer(None, error.what, ())
    apart = np.abs(np.arange(depth)[:, None] - np.arange(depth))
    return ModelRecord(
        model=f"models/{NAMES[index]}.safetensors",
        name=NAMES[index],
        group=GROUPS[index],
        images=images,
        sha256="0" * 64,
        input_size=224,
        grid=(14, 14),
        class_token=True,
        registers=0,
        layers=layers,
        cka=np.exp(-apart / (4 + 3 * index)).tolist(),
        cka_std=np.full((depth, depth), 0.02).tolist(),
        choice=choice,
    )


def _values(mean: float, heads: int, seed: np.random.Generator) -> Summary:
    spread = 0.25 * abs(mean)
    per_head = (mean + seed.uniform(-spread, spread, heads)).tolist()
    return Summary(mean, 0.1 * abs(mean), per_head)


def _difference(infrared: ModelRecord, visible: ModelRecord) -> DifferenceRecord:
    layers = [
        LayerDifference(
            a.layer,
            a.heads,
            {
                name: Summary(
                    b.measures[name].mean - a.measures[name].mean,
                    0.02,
                    [y - x for x, y in zip(a.measures[name].per_head, b.measures[name].per_head, strict=True)],
                )
                for name in MEASURES
            },
        )
        for a, b in zip(infrared.layers, visible.layers, strict=True)
    ]
    return DifferenceRecord(infrared.model, infrared.name, infrared.group, layers)


def _probe(record: ModelRecord, seed: np.random.Generator) -> LayerProbes:
    nmi = np.array([layer.measures["nmi"].mean for layer in record.layers])
    miou = 0.2 + 0.4 * np.exp(-(((nmi - 0.12) / 0.12) ** 2)) + seed.normal(0, 0.01, len(nmi))
    return LayerProbes(
        data="labelled",
        train="train",
        test="test",
        train_images=120,
        test_images=40,
        short_side=224,
        classes=["background", "person", "car", "bicycle"],
        layers=[LayerScores(n, m, 0.9 * m, [0.95, m, 0.8 * m, None]) for n, m in enumerate(miou.tolist(), 1)],
        best_layer=int(miou.argmax()) + 1,
        warnings=[],
    )
