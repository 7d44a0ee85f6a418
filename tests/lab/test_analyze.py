"""`unip analyze`: the numbers are those of timm's own attention, and the report says which layer to distil."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from unip.data.transforms import IMAGENET_MEAN, IMAGENET_STD, INFMIX_MEAN, INFMIX_STD
from unip.errors import UnipError
from unip.lab.analyze import AnalyzeConfig, analyze, file_names

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
        cfg = {**cfg, "input_size": (3, arguments["img_size"], arguments["img_size"])}
        return spec.model_copy(update={"arguments": {**spec.arguments, **arguments}}), cfg

    monkeypatch.setattr(backbone, "timm_model", small)


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
    result = analyze(
        models=(saved(kind, tmp_path),), images=(str(images),), out=tmp_path / "out", normalization="infmix", pictures=0
    )
    pixels = pixels_of(images, size, (INFMIX_MEAN,) * 3, (INFMIX_STD,) * 3)
    maps = eager_attention(pointed(kind), pixels)
    analysis = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert json.loads(json.dumps(result.analysis)) == analysis
    (record,) = analysis["models"]
    assert [layer["layer"] for layer in record["layers"]] == [1, 2, 3, 4]
    for layer, attention in zip(record["layers"], maps, strict=True):
        wanted = np.array([[nmi_float64(head) for head in image] for image in attention.numpy()])
        assert 0.02 < wanted.mean() < 0.98
        assert layer["nmi"] == pytest.approx(wanted.mean(), abs=1e-4)
        assert layer["nmi_per_head"] == pytest.approx(wanted.mean(0).tolist(), abs=1e-4)
        assert layer["nmi_std_over_images"] == pytest.approx(wanted.mean(1).std(), abs=1e-4)
        assert layer["heads"] == 2
        assert layer["pattern"] in ("local", "hybrid", "global")


def nmi_row(result) -> list[float]:
    return [layer["nmi"] for layer in result.analysis["models"][0]["layers"]]


def test_normalization(images, tmp_path):
    source = saved("plain", tmp_path)
    rows = {}
    for name, mean, std in (
        ("imagenet", IMAGENET_MEAN, IMAGENET_STD),
        ("infmix", (INFMIX_MEAN,) * 3, (INFMIX_STD,) * 3),
        ("model", (0.5,) * 3, (0.5,) * 3),  # what timm says of this name
    ):
        result = analyze(models=(source,), images=(str(images),), out=tmp_path, normalization=name, pictures=0)
        maps = eager_attention(pointed("plain"), pixels_of(images, 64, mean, std))
        rows[name] = nmi_row(result)
        wanted = [np.mean([nmi_float64(head) for image in m.numpy() for head in image]) for m in maps]
        assert rows[name] == pytest.approx(wanted, abs=1e-4)
        assert result.analysis["preprocessing"]["normalization"] == name
    assert rows["imagenet"] != pytest.approx(rows["infmix"], abs=1e-4)


def test_size(images, tmp_path):
    source = saved("plain", tmp_path)
    own, same, larger = (
        analyze(models=(source,), images=(str(images),), out=tmp_path, size=size, pictures=0) for size in (None, 64, 96)
    )
    assert nmi_row(own) == nmi_row(same)
    assert nmi_row(own) != pytest.approx(nmi_row(larger), abs=1e-4)
    assert [r.analysis["models"][0]["input_size"] for r in (own, same, larger)] == [64, 64, 96]


def test_batches_and_draws(images, tmp_path):
    source = saved("plain", tmp_path)

    def run(**changes):
        return analyze(models=(source,), images=(str(images),), out=tmp_path, pictures=0, **changes)

    assert nmi_row(run(batch_size=2)) == pytest.approx(nmi_row(run(batch_size=100)), abs=1e-5)
    few = run(max_images=2)
    assert few.analysis["images"]["count"] == 2
    assert few.analysis["images"]["of"] == 5
    assert nmi_row(run(max_images=2)) == nmi_row(few)
    assert nmi_row(few) != pytest.approx(nmi_row(run()), abs=1e-6)


def test_several_models_at_once_and_their_pictures(images, tmp_path, capsys):
    sources = [saved(kind, tmp_path) for kind in ("plain", "rope")]
    out = tmp_path / "out"
    result = analyze(models=(*sources, sources[0]), images=(str(images),), out=out, pictures=1)
    records = result.analysis["models"]
    assert [record["model"] for record in records] == [*sources, sources[0]]
    assert records[0]["layers"] == records[2]["layers"] != records[1]["layers"]
    assert all(len(record["sha256"]) == 64 for record in records)
    assert sorted(path.name for path in out.iterdir()) == [
        "analysis.json",
        "maps-plain.safetensors--2.png",
        "maps-plain.safetensors.png",
        "maps-rope.safetensors.png",
        "nmi.png",
    ]
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
            assert min(picture.size) > 100
    said = capsys.readouterr().out
    assert all(record["choice"]["reason"] in said for record in records)


def test_names_of_files():
    sources = ["timm:a", "runs/x/model", "runs/y/model", "/w/deit.pth", "hf:timm/vit.b", "..."]
    assert file_names(sources) == ["timm-a", "model", "model--2", "deit.pth", "vit.b", "model--3"]


def test_a_model_that_stays_local_is_reported_without_a_choice(images, tmp_path, capsys):
    """Masked-image models do: their NMI peaks at the end."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **MODELS["plain"][1])
    for number, block in enumerate(model.blocks):
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.02 + 0.1 * number)
    save_file(model.state_dict(), tmp_path / "local.safetensors")
    source = f"timm:vit_tiny_patch16_224@{tmp_path / 'local.safetensors'}"
    result = analyze(models=(source,), images=(str(images),), out=tmp_path / "out", pictures=0)
    (record,) = result.analysis["models"]
    assert record["choice"]["layer"] is None
    assert "no layer to choose: the NMI peaks at layer 4 of 4" in record["choice"]["reason"]
    assert [layer["pattern"] for layer in record["layers"]] == ["local"] * 4
    assert (tmp_path / "out" / "nmi.png").exists()
    assert record["choice"]["reason"] in capsys.readouterr().out


def test_thresholds_and_exclusion(images, tmp_path):
    source = saved("plain", tmp_path)
    plain = analyze(models=(source,), images=(str(images),), out=tmp_path, pictures=0)
    choice = plain.analysis["models"][0]["choice"]
    row = nmi_row(plain)
    others = [layer for layer in range(choice["peak"] + 1, 5) if layer != choice["layer"]]
    excluded = analyze(
        models=(source,), images=(str(images),), out=tmp_path, pictures=0, exclude_layers=(choice["layer"],)
    )
    found = excluded.analysis["models"][0]["choice"]["layer"]
    assert found == (min(others, key=lambda n: abs(row[n - 1] - 0.09)) if others else None)
    moved = analyze(models=(source,), images=(str(images),), out=tmp_path, pictures=0, local_above=0, global_below=0)
    assert {layer["pattern"] for layer in moved.analysis["models"][0]["layers"]} == {"local"}
    assert moved.analysis["thresholds"] == {"local_above": 0, "global_below": 0}


def test_a_dry_run_writes_nothing(images, tmp_path, capsys):
    source = saved("plain", tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert analyze(models=(source,), images=(str(images),), out=tmp_path / "out", dry_run=True) is None
    assert sorted(tmp_path.rglob("*")) == before
    assert "4 layers, 5 images squashed to 64 px" in capsys.readouterr().out


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("changes", "what", "fix"),
    [
        ({"size": 70}, "70 px is no whole number of .*'s 16-px patches", "Choose --size as a multiple of 16."),
        ({"exclude_layers": (5,)}, "layer 5 is out of range: this model has layers 1 to 4", ""),
        ({"images": ("nowhere",)}, "no such folder or image: nowhere", "Check the path."),
        ({"models": ("nowhere.pth",)}, "no backbone 'nowhere.pth'", "Give timm:NAME"),
    ],
)
def test_refused(images, tmp_path, changes, what, fix, dry_run):
    values = {"models": (saved("plain", tmp_path),), "images": (str(images),), "out": tmp_path / "out", **changes}
    with pytest.raises(UnipError, match=what) as caught:
        analyze(AnalyzeConfig.make(**values, dry_run=dry_run))
    assert caught.value.fix.startswith(fix)
    assert not (tmp_path / "out").exists()


def test_deit_tiny_on_roadscene_goes_from_local_over_hybrid_to_global(tmp_path):
    if not DEIT.exists() or not ROADSCENE.exists():
        pytest.skip(f"the real weights or images are not there: {DEIT}, {ROADSCENE}")
    infrared = ROADSCENE / "thermal"
    result = analyze(
        models=(str(DEIT),), images=(f"infrared={infrared}",), out=tmp_path, max_images=24, size=224, pictures=0
    )
    known = [0.176, 0.384, 0.488, 0.247, 0.160, 0.114, 0.143, 0.157, 0.063, 0.045, 0.016, 0.014]
    assert nmi_row(result) == pytest.approx(known, abs=0.02)
    (record,) = result.analysis["models"]
    patterns = [layer["pattern"] for layer in record["layers"]]
    assert patterns == sorted(patterns, key=("local", "hybrid", "global").index)
    assert set(patterns) == {"local", "hybrid", "global"}
    assert record["choice"]["layer"] == 6
    assert "layer 6 has the NMI" in record["choice"]["reason"]
