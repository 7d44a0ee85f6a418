"""`unip analyze`: the numbers are those of timm's own attention, and the report says which layer to distil."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.analysis.undrawn import leave_undrawn
from unip.analysis.config import AnalyzeConfig
from unip.analysis.program import short_names
from unip.analysis.records import PairRecord, Thresholds
from unip.analysis.verbs import analyze
from unip.attention.measuring import MEASURES
from unip.data.labelled.classes import Classes
from unip.errors import UnipError
from unip.segmentation.model import Segmenter, SegmenterSpec
from unip.segmentation.storage import save_segmenter
from unip.vit.normalisation import IMAGENET_MEAN, IMAGENET_STD, INFMIX_MEAN, INFMIX_STD
from unip.vit.student import student_spec

SHARED = Path(__file__).parents[2].parent / "shared"
DEIT = SHARED / "weights" / "deit_tiny_patch16_224.fp16.safetensors"
ROADSCENE = SHARED / "data" / "infmix-mini" / "infpre" / "roadscene"

SMALL = {"embed_dim": 64, "depth": 4, "num_heads": 2}
# timm's name, its arguments, and the source as a user gives it where the tensors alone do not tell
MODELS = {
    "plain": ("vit_tiny_patch16_224", {"img_size": 64, **SMALL}, 64),
    "registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 56, **SMALL}, 56),
    "rope": ("vit_small_patch16_dinov3", {"img_size": 64, **SMALL}, 64),
    "rope, separate q k v": ("eva02_tiny_patch14_224", {"img_size": 56, **SMALL}, 56),
}


def pointed(kind: str) -> torch.nn.Module:
    name, arguments, _ = MODELS[kind]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **arguments)
    for name, parameter in model.named_parameters():  # initial weights give almost uniform attention: make it pointed
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25 if "attn" in name else 0.1)
        elif not name.endswith("norm1.weight"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.fixture(autouse=True)
def _small_models(monkeypatch):
    """Let ``timm:NAME@FILE`` name these small models instead of the ones of that name."""
    import unip.vit.backbone as backbone

    original = backbone.timm_model

    def small(name):
        spec, cfg = original(name)
        arguments = next((a for n, a, _ in MODELS.values() if n == name), {})
        cfg = dataclasses.replace(cfg, input_size=(3, arguments["img_size"], arguments["img_size"]))
        return spec.model_copy(update={"arguments": {**spec.arguments, **arguments}}), cfg

    monkeypatch.setattr(backbone, "timm_model", small)


def numbers(**settings):
    """An analysis without report: the numbers only, which takes a fraction of the time."""
    return analyze(report=False, **settings)


@pytest.fixture
def undrawn(monkeypatch):
    """An analysis whose figures are not looked at."""
    leave_undrawn(monkeypatch)


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        frame = rng.integers(60, 140, (64, 64), dtype=np.uint8)
        top, left = rng.integers(0, 40, 2)
        frame[top : top + 20, left : left + 20] = 230
        Image.fromarray(frame).save(folder / f"{number}.png")
    return folder


def saved(kind: str, folder: Path) -> str:
    file = folder / f"{kind}.safetensors"
    save_file(pointed(kind).state_dict(), file)
    return f"timm:{MODELS[kind][0]}@{file}"


def eager_attention(model: torch.nn.Module, pixels: torch.Tensor) -> list[torch.Tensor]:
    """The softmax of timm's own unfused forward in float64, caught on its way into the attention dropout."""
    maps: list[torch.Tensor] = []
    model = model.double()
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, i, o: maps.append(i[0]))
    with torch.no_grad():
        model.forward_features(pixels.double())
    return maps


def nmi_float64(attention: np.ndarray) -> float:
    """NMI of one map, by its definition: p(q) = 1/L, p(k) the mean that k receives (METHOD of the paper, section 3)."""
    length = len(attention)
    received = attention.mean(0)
    positive = attention > 0
    ratio = np.where(positive, attention / received, 1)
    information = (attention * np.log(ratio)).sum() / length
    h_key = -(received[received > 0] * np.log(received[received > 0])).sum()
    return information / math.sqrt(math.log(length) * h_key) if h_key > 0 else 0.0


def pixels_of(images: Path, size: int, mean, std) -> torch.Tensor:
    """Squash with Pillow's own bicubic filter where the size differs, grey in three channels."""
    frames = []
    for path in sorted(images.iterdir()):
        with Image.open(path) as image:
            frame = image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)
            frames.append(np.asarray(frame, dtype=np.float64) / 255)
    grey = torch.tensor(np.stack(frames))[:, None].expand(-1, 3, -1, -1)
    return (grey - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


@pytest.mark.parametrize("kind", MODELS)
def test_nmi_equals_a_float64_recomputation_from_timms_eager_attention(kind, images, tmp_path):
    size = MODELS[kind][2]
    for path in images.iterdir():  # frames of the model's own size: no resampling to disagree about
        with Image.open(path) as image:
            image.crop((0, 0, size, size)).save(path)
    result = numbers(
        models=(saved(kind, tmp_path),), images=(str(images),), out=tmp_path / "out", normalization="infmix"
    )
    pixels = pixels_of(images, size, (INFMIX_MEAN,) * 3, (INFMIX_STD,) * 3)
    maps = eager_attention(pointed(kind), pixels)
    analysis = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert json.loads(json.dumps(result.analysis.to_dict())) == analysis
    (record,) = analysis["models"]
    assert [layer["layer"] for layer in record["layers"]] == [1, 2, 3, 4]
    for layer, attention in zip(record["layers"], maps, strict=True):
        wanted = np.array([[nmi_float64(head) for head in image] for image in attention.numpy()])
        assert 0.02 < wanted.mean() < 0.98
        nmi = layer["measures"]["nmi"]
        assert nmi["mean"] == pytest.approx(wanted.mean(), abs=1e-4)
        assert nmi["per_head"] == pytest.approx(wanted.mean(0).tolist(), abs=1e-4)
        assert nmi["std"] == pytest.approx(wanted.mean(1).std(), abs=1e-4)
        assert set(layer["measures"]) == set(MEASURES)
        assert layer["heads"] == 2
        assert layer["pattern"] in ("local", "hybrid", "global")


def nmi_row(result) -> list[float]:
    return [layer.measures["nmi"].mean for layer in result.analysis.models[0].layers]


def test_normalization(images, tmp_path):
    source = saved("plain", tmp_path)
    rows = {}
    for name, mean, std in (
        ("imagenet", IMAGENET_MEAN, IMAGENET_STD),
        ("infmix", (INFMIX_MEAN,) * 3, (INFMIX_STD,) * 3),
        ("model", (0.5,) * 3, (0.5,) * 3),  # what timm says of this name
    ):
        result = numbers(models=(source,), images=(str(images),), out=tmp_path, normalization=name)
        maps = eager_attention(pointed("plain"), pixels_of(images, 64, mean, std))
        rows[name] = nmi_row(result)
        wanted = [np.mean([nmi_float64(head) for image in m.numpy() for head in image]) for m in maps]
        assert rows[name] == pytest.approx(wanted, abs=1e-4)
        assert result.analysis.preprocessing.normalization == name
    assert rows["imagenet"] != pytest.approx(rows["infmix"], abs=1e-4)


def test_size(images, tmp_path):
    source = saved("plain", tmp_path)
    own, same, larger = (
        numbers(models=(source,), images=(str(images),), out=tmp_path, size=size) for size in (None, 64, 96)
    )
    assert nmi_row(own) == nmi_row(same)
    assert nmi_row(own) != pytest.approx(nmi_row(larger), abs=1e-4)
    assert [r.analysis.models[0].input_size for r in (own, same, larger)] == [64, 64, 96]


def test_batches_and_draws(images, tmp_path):
    source = saved("plain", tmp_path)

    def run(**changes):
        return numbers(models=(source,), images=(str(images),), out=tmp_path, **changes)

    assert nmi_row(run(batch_size=2)) == pytest.approx(nmi_row(run(batch_size=100)), abs=1e-5)
    few = run(max_images=2)
    assert few.analysis.images.count == 2
    assert few.analysis.images.of == 5
    assert nmi_row(run(max_images=2)) == nmi_row(few)
    assert nmi_row(few) != pytest.approx(nmi_row(run()), abs=1e-6)


def test_several_models_at_once_with_report(images, tmp_path, capsys):
    sources = [saved(kind, tmp_path) for kind in ("plain", "rope")]
    out = tmp_path / "out"
    result = analyze(
        models=(*sources, sources[0]),
        images=(str(images),),
        out=out,
        pictures=1,
        explorer=2,
        groups=("masked-image", "contrastive", "other"),
    )
    records = result.analysis.models
    assert [record.model for record in records] == [*sources, sources[0]]
    assert [record.group for record in records] == ["masked-image", "contrastive", "other"]
    assert records[0].layers == records[2].layers != records[1].layers
    assert all(len(record.sha256) == 64 for record in records)
    assert [(record.class_token, record.registers) for record in records] == [(True, 0), (True, 4), (True, 0)]
    assert sorted(path.name for path in out.iterdir()) == [
        ".unip",
        "analysis.json",
        "figures",
        "maps",
        "measures.parquet",
        "report.html",
    ]
    assert sorted(path.name for path in (out / "maps").iterdir()) == [
        "vit_small_patch16_dinov3.png",
        "vit_tiny_patch16_224--2.png",
        "vit_tiny_patch16_224.png",
    ]
    for path in out.rglob("*.png"):
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
            assert min(picture.size) > 100
    page = (out / "report.html").read_text()
    assert page.count('type="text/plain"') == 3 * 2 * 4  # models, images and layers of the explorer
    assert "<!-- explorer -->" not in page
    said = capsys.readouterr().out
    assert all(record.choice.reason in said for record in records)


def test_the_table_holds_every_measure_of_every_head(images, tmp_path):
    result = numbers(models=(saved("registers", tmp_path),), images=(str(images),), out=tmp_path / "out")
    rows = pq.read_table(tmp_path / "out/measures.parquet").to_pylist()
    (record,) = result.analysis.models
    attention = [name for name in MEASURES if name != "high_frequency"]
    assert len(rows) == 4 * (len(attention) * 3 + 1)  # a mean over two heads and both, and the features
    for row in rows:
        value = record.layers[row["layer"] - 1].measures[row["measure"]]
        wanted = value.mean if row["head"] is None else value.per_head[row["head"] - 1]
        assert row["mean"] == pytest.approx(wanted)
        assert row["std"] >= 0
    cka = np.array(record.cka)
    assert cka.shape == (4, 4)
    np.testing.assert_allclose(np.diag(cka), 1, atol=1e-5)
    np.testing.assert_allclose(cka, cka.T, atol=1e-6)


@pytest.mark.usefixtures("undrawn")
def test_pairs_are_measured_on_both_images_and_compared(images, tmp_path):
    visible = tmp_path / "visible"
    visible.mkdir()
    rng = np.random.default_rng(1)
    for path in sorted(images.iterdir())[:3]:
        Image.fromarray(rng.integers(0, 255, (48, 80, 3), dtype=np.uint8)).save(visible / f"{path.stem}.jpg")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(visible / "other.png")
    source = saved("plain", tmp_path)
    common = {"models": (source,), "images": (str(images),), "pair": (str(visible),)}
    result = analyze(**common, out=tmp_path / "out", pictures=1, explorer=1)
    assert result.analysis.images.count == 3
    assert result.analysis.pair == PairRecord([str(visible)], 2)
    infrared, seen = result.analysis.models
    assert (infrared.images, seen.images) == ("infrared", "visible")
    (difference,) = result.analysis.differences
    for before, after, change in zip(infrared.layers, seen.layers, difference.layers, strict=True):
        for name in MEASURES:
            if name == "register_share":  # it has none
                assert change.measures[name].mean is None
                continue
            wanted = after.measures[name].mean - before.measures[name].mean
            assert change.measures[name].mean == pytest.approx(wanted, abs=1e-4)
    names = {path.name for path in (tmp_path / "out/maps").iterdir()}
    assert names == {"vit_tiny_patch16_224-infrared.png", "vit_tiny_patch16_224-visible.png"}
    grey = numbers(**common, out=tmp_path / "grey", pair_colour=False).analysis.models
    assert grey[0].layers == infrared.layers
    assert grey[1].layers != seen.layers
    with pytest.raises(UnipError, match=r"none of the 5 images of .* has a partner"):
        analyze(models=(source,), images=(str(images),), pair=(str(tmp_path / "out"),), out=tmp_path / "none")


@pytest.mark.usefixtures("undrawn")
def test_images_that_cannot_be_read_are_skipped_and_listed(images, tmp_path, capsys):
    (images / "9-bad.png").write_bytes(b"no image")
    whole = (images / "0.png").read_bytes()
    (images / "1.png").write_bytes(whole[: len(whole) // 2])
    result = analyze(models=(saved("plain", tmp_path),), images=(str(images),), out=tmp_path / "out")
    found = result.analysis.images
    assert (found.count, found.of) == (4, 6)
    assert sorted(Path(skipped.path).name for skipped in found.skipped) == ["1.png", "9-bad.png"]
    assert capsys.readouterr().out.count("skipped: ") == 2
    assert "9-bad.png" in (tmp_path / "out/report.html").read_text()


def test_nothing_to_look_at(tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no image")
    with pytest.raises(UnipError, match=r"none of the 1 images of .* can be read, the first: .*a.png"):
        analyze(models=("unip_micro",), images=(str(folder),), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_one_16_bit_image_of_another_size(images, tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "counts"
    folder.mkdir()
    Image.fromarray(rng.integers(20_000, 21_000, (40, 90), dtype=np.uint16)).save(folder / "one.png")
    result = analyze(models=(saved("plain", tmp_path),), images=(str(folder),), out=tmp_path / "out")
    (record,) = result.analysis.models
    assert all(layer.measures["nmi"].std == 0 for layer in record.layers)
    assert all(0 < layer.measures["nmi"].mean < 1 for layer in record.layers)
    assert (tmp_path / "out/report.html").is_file()


def test_images_of_different_sizes(images, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for number, path in enumerate(sorted(images.iterdir())):
        with Image.open(path) as image:
            image.resize((64 + 16 * number, 64)).save(mixed / path.name)
    found = numbers(models=(saved("plain", tmp_path),), images=(str(mixed),), out=tmp_path / "out")
    assert found.analysis.images.count == 5


@pytest.mark.usefixtures("undrawn")
def test_a_fine_tuned_segmenter_and_its_probe(images, tmp_path):
    (tmp_path / "labelled/train").mkdir(parents=True)
    (tmp_path / "labelled/classes.json").write_text('{"names": ["background", "object"]}')
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            (tmp_path / "labelled" / split / kind).mkdir(parents=True)
        for path in images.iterdir():
            frame = np.asarray(Image.open(path))
            Image.fromarray(frame).save(tmp_path / "labelled" / split / "images" / path.name)
            Image.fromarray((frame == 230).astype(np.uint8)).save(tmp_path / "labelled" / split / "masks" / path.name)
    spec = student_spec("unip_micro", last_heads=6)
    classes = Classes.from_dict({"names": ["background", "object"]})
    layers = {"layers": (6,), "channels": 8, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    torch.manual_seed(0)
    save_segmenter(
        Segmenter(SegmenterSpec(backbone=spec, classes=classes, decoder="light", **layers)), tmp_path / "run/model"
    )
    result = analyze(
        models=(str(tmp_path / "run"),),
        images=(str(images),),
        out=tmp_path / "out",
        size=64,
        pictures=1,
        probe=tmp_path / "labelled",
        probe_side=64,
    )
    (record,) = result.analysis.models
    assert [layer.heads for layer in record.layers] == [3] * 5 + [6]
    assert record.probe.train_images == record.probe.test_images == 5
    assert [layer.layer for layer in record.probe.layers] == [1, 2, 3, 4, 5, 6]
    assert all(0.3 < layer.miou <= 1 for layer in record.probe.layers)
    assert (tmp_path / "out/figures/probe.png").is_file()


def test_names_of_files():
    sources = ["timm:a", "runs/x/model", "q/x", "x--2", "/w/deit.pth", "hf:timm/vit.b", "...", "timm:b.tag@/x/b.pth"]
    assert short_names(sources) == ["a", "x", "x--2", "x--2--2", "deit.pth", "vit.b", "model", "b.tag"]


def test_a_model_that_stays_local_is_reported_without_a_choice(images, tmp_path, capsys):
    """Masked-image models do: their NMI peaks at the end."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **MODELS["plain"][1])
    for number, block in enumerate(model.blocks):
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.02 + 0.1 * number)
    save_file(model.state_dict(), tmp_path / "local.safetensors")
    source = f"timm:vit_tiny_patch16_224@{tmp_path / 'local.safetensors'}"
    result = numbers(models=(source,), images=(str(images),), out=tmp_path / "out")
    (record,) = result.analysis.models
    assert record.choice.layer is None
    assert "no layer to choose: the NMI peaks at layer 4 of 4" in record.choice.reason
    assert [layer.pattern for layer in record.layers] == ["local"] * 4
    assert record.choice.reason in capsys.readouterr().out


def test_thresholds_and_exclusion(images, tmp_path):
    source = saved("plain", tmp_path)
    plain = numbers(models=(source,), images=(str(images),), out=tmp_path)
    choice = plain.analysis.models[0].choice
    row = nmi_row(plain)
    others = [layer for layer in range(choice.peak + 1, 5) if layer != choice.layer]
    excluded = numbers(models=(source,), images=(str(images),), out=tmp_path, exclude_layers=(choice.layer,))
    found = excluded.analysis.models[0].choice.layer
    assert found == (min(others, key=lambda n: abs(row[n - 1] - 0.09)) if others else None)
    moved = numbers(models=(source,), images=(str(images),), out=tmp_path, local_above=0, global_below=-1)
    assert {layer.pattern for layer in moved.analysis.models[0].layers} == {"local"}
    assert moved.analysis.thresholds == Thresholds(local_above=0, global_below=-1, target_nmi=0.09)
    assert any("no layer is hybrid" in warning for warning in moved.analysis.models[0].choice.warnings)


def test_a_dry_run_writes_nothing(images, tmp_path, capsys):
    source = saved("plain", tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert numbers(models=(source,), images=(str(images),), out=tmp_path / "out", dry_run=True) is None
    assert sorted(tmp_path.rglob("*")) == before
    assert "4 layers, images resized to squares of 64 px" in capsys.readouterr().out


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("changes", "what", "fix"),
    [
        ({"size": 70}, "70 px is not a multiple of .*'s 16-px patches", "Choose --size as a multiple of 16."),
        ({"exclude_layers": (5,)}, "layer 5 is out of range: this model has layers 1 to 4", ""),
        ({"images": ("nowhere",)}, "no such folder or image: nowhere", "Check the path."),
        ({"groups": ("other", "other")}, "groups: 2, but models: 1", "Give one group a model"),
        ({"local_above": 0.1, "global_below": 0.3}, "local_above 0.1 is not above global_below 0.3", "Hybrid"),
        ({"probe": Path("nowhere")}, "nowhere", ""),
        ({"models": ("nowhere.pth",)}, "no backbone 'nowhere.pth'", "Give timm:NAME"),
    ],
)
def test_refused(images, tmp_path, changes, what, fix, dry_run):
    values = {"models": (saved("plain", tmp_path),), "images": (str(images),), "out": tmp_path / "out", **changes}
    with pytest.raises(UnipError, match=what) as caught:
        analyze(AnalyzeConfig.make(**values), dry_run=dry_run)
    assert caught.value.fix.startswith(fix)
    assert not (tmp_path / "out").exists()


def test_deit_tiny_on_roadscene_goes_from_local_over_hybrid_to_global(tmp_path):
    if not DEIT.exists() or not ROADSCENE.exists():
        pytest.skip(f"the real weights or images are not there: {DEIT}, {ROADSCENE}")
    infrared = ROADSCENE / "thermal"
    result = numbers(models=(str(DEIT),), images=(f"infrared={infrared}",), out=tmp_path, max_images=24, size=224)
    known = [0.176, 0.384, 0.488, 0.247, 0.160, 0.114, 0.143, 0.157, 0.063, 0.045, 0.016, 0.014]
    assert nmi_row(result) == pytest.approx(known, abs=0.02)
    (record,) = result.analysis.models
    patterns = [layer.pattern for layer in record.layers]
    assert patterns == sorted(patterns, key=("local", "hybrid", "global").index)
    assert set(patterns) == {"local", "hybrid", "global"}
    assert record.choice.layer == 6
    assert "layer 6 has the NMI" in record.choice.reason


@pytest.mark.usefixtures("undrawn")
def test_a_later_analysis_leaves_nothing_of_an_earlier_one(images, tmp_path):
    first, second = saved("plain", tmp_path), saved("rope", tmp_path)
    analyze(models=(first,), images=(str(images),), out=tmp_path / "out", pictures=1, explorer=0)
    analyze(models=(second,), images=(str(images),), out=tmp_path / "out", pictures=1, explorer=0)
    assert [path.name for path in (tmp_path / "out/maps").iterdir()] == ["vit_small_patch16_dinov3.png"]
    numbers(models=(first,), images=(str(images),), out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".unip", "analysis.json", "measures.parquet"]


@pytest.mark.usefixtures("undrawn")
def test_a_file_name_that_is_not_utf8_and_a_damaged_one(images, tmp_path):
    os.rename(os.fsencode(images / "0.png"), os.fsencode(images) + b"/\xff0.png")
    with open(os.fsencode(images) + b"/\xfe.png", "wb"):
        pass
    result = analyze(models=(saved("plain", tmp_path),), images=(str(images),), out=tmp_path / "out", pictures=0)
    assert result.analysis.images.count == 5
    assert "\ufffd" in result.analysis.images.skipped[0].path
    assert "\ufffd0.png" in (tmp_path / "out/report.html").read_text()


def test_a_probe_that_fails_leaves_the_measures(images, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise UnipError("test image 7 is truncated", "Copy it again.")

    monkeypatch.setattr("unip.segmentation.probe_data.open_splits", lambda settings: ([1], [2], "test"))
    monkeypatch.setattr("unip.analysis.program.probe_layers", fail)
    with pytest.raises(UnipError, match=r"probe failed; everything else was written: test image 7"):
        numbers(models=(saved("plain", tmp_path),), images=(str(images),), out=tmp_path / "out", probe=tmp_path)
    assert json.loads((tmp_path / "out/analysis.json").read_text())["models"][0]["probe"] is None


@pytest.mark.usefixtures("undrawn")
def test_the_maps_get_what_the_rest_of_the_page_leaves(images, tmp_path, monkeypatch):
    source = saved("plain", tmp_path)
    whole = analyze(models=(source,), images=(str(images),), out=tmp_path / "a", explorer=4)
    assert "single heads on" not in (whole.out / "report.html").read_text()
    monkeypatch.setattr("unip.analysis.program.REPORT_BYTES", 500_000)
    smaller = analyze(models=(source,), images=(str(images),), out=tmp_path / "b", explorer=4)
    assert "single heads on" in (smaller.out / "report.html").read_text()
    assert (smaller.out / "report.html").stat().st_size < (whole.out / "report.html").stat().st_size
