"""Backbones from timm names, hub repositories, files, folders and students."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from huggingface_hub import errors as hub_errors
from safetensors.torch import load_file, save_file
from torch import nn

from unip.errors import UnipError
from unip.vit import hub
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.vit.normalisation import INFMIX_MEAN, INFMIX_STD
from unip.vit.spec import build_backbone
from unip.vit.student import student_spec
from unip.vit.weights import load_into, read_checkpoint

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def same_features(first: nn.Module, second: nn.Module, side: int = 32) -> None:
    images = torch.randn(1, 3, side, side)
    with torch.no_grad():
        features = [model.eval().forward_features(images) for model in (first, second)]
    torch.testing.assert_close(*features, rtol=0, atol=0)


def test_a_student_comes_with_random_weights_and_infmix_normalisation() -> None:
    backbone = load_backbone("unip_micro", drop_path=0.1)
    assert (backbone.mean, backbone.std) == ((INFMIX_MEAN,) * 3, (INFMIX_STD,) * 3)
    assert (backbone.input_size, backbone.report, backbone.source) == (224, None, "unip_micro")
    assert backbone.model.blocks[0].drop_path1.drop_prob == 0.1


@pytest.mark.parametrize(
    ("name", "size", "mean", "prefix"),
    [
        ("timm:deit_tiny_patch16_224", 224, IMAGENET[0], 1),
        ("timm:vit_small_patch14_dinov2.lvd142m", 518, IMAGENET[0], 1),
        ("timm:vit_small_patch14_reg4_dinov2", 518, IMAGENET[0], 5),
        ("timm:vit_small_patch16_dinov3", 256, IMAGENET[0], 5),
        ("timm:eva02_tiny_patch14_224", 224, (0.48145466, 0.4578275, 0.40821073), 1),
        ("timm:vit_base_patch16_siglip_224", 224, (0.5, 0.5, 0.5), 0),
    ],
)
def test_timm_names_give_plain_vits_for_any_input_size(
    name: str, size: int, mean: tuple[float, ...], prefix: int
) -> None:
    backbone = load_backbone(name, random_weights=True)
    model = backbone.model.eval()
    assert (backbone.input_size, backbone.mean, model.num_prefix_tokens) == (size, mean, prefix)
    assert backbone.report is None
    assert isinstance(model.head, nn.Identity)
    assert isinstance(model.norm, nn.LayerNorm) and isinstance(model.fc_norm, nn.Identity)
    patch = model.patch_embed.patch_size[0]
    with torch.no_grad():  # 3 x 4 patches and a bit
        maps = model.forward_intermediates(
            torch.randn(1, 3, 2 * patch + 1, 4 * patch), indices=1, intermediates_only=True
        )
    assert maps[0].shape == (1, model.embed_dim, 3, 4)


def test_a_timm_name_with_a_file(tmp_path: Path) -> None:
    model = timm.create_model("deit_tiny_patch16_224", num_classes=3).eval()
    torch.save({"model": model.state_dict()}, tmp_path / "deit.pth")
    backbone = load_backbone(f"timm:deit_tiny_patch16_224@{tmp_path / 'deit.pth'}")
    assert backbone.report is not None
    assert (backbone.report.matched, backbone.report.ignored) == (150, ("head.weight", "head.bias"))
    assert backbone.spec == BackboneSpec(timm_name="deit_tiny_patch16_224", arguments={"img_size": 224})
    same_features(backbone.model, model, 224)


def test_patches_of_another_size_give_the_same_tokens_for_enlarged_images(tmp_path: Path) -> None:
    model = build_backbone(BackboneSpec(arguments=SMALL))
    save_backbone(
        model, BackboneSpec(arguments=SMALL), tmp_path / "m", mean=(0.4,) * 3, std=(0.2,) * 3, input_size=32, info={}
    )
    eight, sixteen = load_backbone(str(tmp_path / "m")), load_backbone(str(tmp_path / "m"), patch=16)
    assert sixteen.spec.arguments == {**SMALL, "patch_size": 16, "img_size": 64}
    assert (eight.input_size, sixteen.input_size) == (32, 64)
    torch.testing.assert_close(sixteen.model.get_parameter("pos_embed"), eight.model.get_parameter("pos_embed"))
    coarse = torch.rand(2, 3, 4, 4)
    images, enlarged = (nn.functional.interpolate(coarse, (side, side), mode="bicubic") for side in (32, 64))
    with torch.no_grad():
        tokens = [each.model.patch_embed(seen) for each, seen in ((eight, images), (sixteen, enlarged))]  # type: ignore[operator]
    assert (tokens[0] - tokens[1]).norm() < 0.05 * tokens[0].norm()


def test_norms_after_pooling_become_norms_of_the_tokens(tmp_path: Path) -> None:
    arguments = {"embed_dim": 64, "depth": 2, "num_heads": 2, "img_size": 28}
    pooled = timm.create_model("eva02_tiny_patch14_224", num_classes=0, global_pool="avg", **arguments).eval()
    nn.init.normal_(pooled.fc_norm.weight)
    torch.save(pooled.state_dict(), tmp_path / "eva.pth")
    model = build_backbone(BackboneSpec(timm_name="eva02_tiny_patch14_224", arguments=arguments)).eval()
    report = load_into(model, read_checkpoint(tmp_path / "eva.pth"))
    assert report.matched == len(model.state_dict())
    assert report.moved == ("fc_norm.weight -> norm.weight", "fc_norm.bias -> norm.bias")
    images = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        expected = pooled.fc_norm(pooled.forward_features(images))
        torch.testing.assert_close(model.forward_features(images), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("timm:vit_tny_patch16_224", "has no model 'vit_tny_patch16_224'\nDid you mean vit_tiny_patch16_224"),
        ("timm:qqqq", "timm.list_models"),
        ("timm:resnet50", "resnet50 is not a plain ViT"),
        ("timm:swin_tiny_patch4_window7_224", "is not a plain ViT"),
        ("timm:vit_tiny_patch16_224.nope", "no weights 'nope'\nKnown: augreg_in21k"),
        ("timm:vit_base_patch16_224_dino", "timm has renamed 'vit_base_patch16_224_dino'"),
        ("unip_tinny", "no backbone 'unip_tinny'.*\nDid you mean 'unip_tiny'"),
        ("nowhere/model.pth", "no such file or folder.*\nGive timm:NAME"),
        ("timm:deit_tiny_patch16_224@nowhere.pth", r"nowhere\.pth does not exist"),
    ],
)
def test_names_that_lead_nowhere(source: str, message: str) -> None:
    with pytest.raises(UnipError, match=message):
        load_backbone(source)


def test_a_block_without_plain_attention_is_refused() -> None:
    with pytest.raises(UnipError, match="vit_small_patch16_18x2_224 is not a plain ViT"):
        build_backbone(BackboneSpec(timm_name="vit_small_patch16_18x2_224", arguments={"depth": 2}))


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(UnipError, match=r"cannot build VisionTransformer with .*'num_heads': 5"):
        build_backbone(BackboneSpec(arguments={**SMALL, "num_heads": 5}))
    with pytest.raises(UnipError, match=r"cannot build vit_tiny_patch16_224 with .*'swiglu_mlp'"):
        build_backbone(BackboneSpec(timm_name="vit_tiny_patch16_224", arguments={"swiglu_mlp": True}))
    rope = BackboneSpec(timm_name="eva02_tiny_patch14_224", arguments={"depth": 1}, last_heads=6)
    with pytest.raises(UnipError, match=r"last block's attention \(EvaAttention\) cannot take another head count"):
        build_backbone(rope)


def unreachable(*_: Any, **__: Any) -> str:
    raise hub_errors.LocalEntryNotFoundError("no network")


def test_an_unreachable_hub_points_to_local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hf_hub_download", unreachable)
    with pytest.raises(
        UnipError, match=r"hub could not be reached for timm/deit_tiny.*\n.*timm:deit_tiny_patch16_224@FI"
    ):
        load_backbone("timm:deit_tiny_patch16_224")
    with pytest.raises(UnipError, match=r"hub could not be reached for a/b\n.*timm:NAME@FILE"):
        load_backbone("hf:a/b")


def test_a_timm_name_takes_its_tags_file_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = timm.create_model("deit_tiny_patch16_224").eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    asked: list[tuple[str, str]] = []

    def serve(repository: str, file: str, **_: Any) -> str:
        asked.append((repository, file))
        return str(tmp_path / file)

    monkeypatch.setattr(hub, "hf_hub_download", serve)
    backbone = load_backbone("timm:deit_tiny_patch16_224.fb_in1k")
    assert asked == [("timm/deit_tiny_patch16_224.fb_in1k", "model.safetensors")]
    same_features(backbone.model, model, 224)


def test_any_failure_of_the_http_client_is_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []

    def broken(*_: Any, local_files_only: bool, **__: Any) -> str:
        calls.append(local_files_only)
        raise ConnectionError("refused")

    monkeypatch.setattr(hub, "hf_hub_download", broken)
    with pytest.raises(UnipError, match="hub could not be reached"):
        load_backbone("timm:deit_tiny_patch16_224")
    assert calls == [False, True]  # the network is tried once, the cache for the other name


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache with one tiny timm model in it, and no network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "cache" / "models--someone--tiny-vit"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7, **SMALL)
    save_file(model.state_dict(), snapshot / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 7,
        "model_args": {**SMALL, "global_pool": "avg"},
        "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
    }
    (snapshot / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_hub_repository_from_the_cache(hub_cache: Path) -> None:
    backbone = load_backbone("hf:someone/tiny-vit")
    assert backbone.spec == BackboneSpec(timm_name="vit_tiny_patch16_224", arguments=SMALL)
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert backbone.input_size == 32
    assert backbone.report is not None
    assert backbone.report.matched == len(backbone.model.state_dict())
    assert backbone.report.ignored == ("head.bias", "head.weight")
    weights = load_file(hub_cache / "model.safetensors")
    for name, value in backbone.model.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


def test_a_hub_repository_with_a_pickle_is_read_safely(hub_cache: Path) -> None:
    weights = load_file(hub_cache / "model.safetensors")
    (hub_cache / "model.safetensors").unlink()
    torch.save(weights, hub_cache / "pytorch_model.bin")
    backbone = load_backbone("hf:someone/tiny-vit")
    assert backbone.report is not None and backbone.report.file.endswith("pytorch_model.bin")
    torch.save({**weights, "evil": shutil.rmtree}, hub_cache / "pytorch_model.bin")
    with pytest.raises(UnipError, match=r"would run shutil\.rmtree"):
        load_backbone("hf:someone/tiny-vit")


def test_hub_repositories_that_do_not_serve(hub_cache: Path) -> None:
    with pytest.raises(UnipError, match="could not be reached for someone/other"):
        load_backbone("hf:someone/other")
    with pytest.raises(UnipError, match="is not a repository name"):
        load_backbone("hf:a/b/c")
    (hub_cache / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(UnipError, match=r"is not a timm model: its config\.json names none"):
        load_backbone("hf:someone/tiny-vit")


def test_a_repository_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any, **__: Any) -> str:
        raise hub_errors.EntryNotFoundError("404")

    monkeypatch.setattr(hub, "hf_hub_download", absent)
    with pytest.raises(UnipError, match=r"holds none of model\.safetensors, pytorch_model\.bin"):
        load_backbone("timm:deit_tiny_patch16_224")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of a student with its own last heads."""
    torch.manual_seed(0)
    spec = student_spec("unip_micro", last_heads=8)
    info = {"licence": "Apache-2.0"}
    return save_backbone(
        build_backbone(spec),
        spec,
        tmp_path / "run" / "model",
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        input_size=64,
        info=info,
    )


@pytest.mark.parametrize("what", ["folder", "run folder", "file"])
def test_model_folders_run_folders_and_their_files(folder: Path, what: str) -> None:
    source = {"folder": folder, "run folder": folder.parent, "file": folder / "model.safetensors"}[what]
    backbone = load_backbone(str(source))
    assert backbone.spec == student_spec("unip_micro", last_heads=8)
    assert (backbone.mean, backbone.std, backbone.input_size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 64)
    assert backbone.report is not None
    assert (backbone.report.layout, backbone.report.matched) == ("unip", len(backbone.model.state_dict()))
    assert [block.attn.num_heads for block in backbone.model.blocks] == [3] * 5 + [8]
    assert not backbone.model.pos_embed.requires_grad
    torch.manual_seed(0)
    same_features(backbone.model, build_backbone(student_spec("unip_micro", last_heads=8)))


def test_the_backbone_of_a_segmenter_folder(tmp_path: Path) -> None:
    spec = BackboneSpec(arguments=SMALL)
    model = build_backbone(spec)
    state = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    save_file({**state, "decoder.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    parts = {"backbone": spec.model_dump(mode="json"), "mean": [0.1] * 3, "std": [0.2] * 3}
    config = {"format": "unip-segmenter-1", "spec": parts, "input_size": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    backbone = load_backbone(str(tmp_path))
    assert backbone.report is not None
    assert backbone.report.ignored == ("decoder.weight",)
    assert backbone.report.matched == len(model.state_dict())
    assert (backbone.mean, backbone.std, backbone.input_size) == ((0.1,) * 3, (0.2,) * 3, 64)
    same_features(backbone.model, model)


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(UnipError, match=r"has no config\.json"):
        load_backbone(str(tmp_path))
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))
    with pytest.raises(UnipError, match=r"was not written by unip: format None\n.*timm:vit_tiny_patch16_224@"):
        load_backbone(str(tmp_path))
    config.write_text(json.dumps({"format": "unip-backbone-1"}))
    with pytest.raises(UnipError, match="is incomplete: 'spec'"):
        load_backbone(str(tmp_path))
    config.write_text(json.dumps({"format": "unip-backbone-1", "spec": {"timm_nam": "x"}}))
    with pytest.raises(UnipError, match="Did you mean 'timm_name'"):
        load_backbone(str(tmp_path))
    config.write_text(json.dumps({"format": "unip-backbone-1", "spec": {"arguments": SMALL}}))
    with pytest.raises(UnipError, match=r"model\.safetensors does not exist"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize(
    ("pattern", "message"), [(r"small\.pth", None), (r"big\.pth", "no file fits"), (r".*", "2 files")]
)
def test_a_plain_checkpoint_in_a_hub_repository(hub_cache: Path, pattern: str, message: str | None) -> None:
    weights = load_file(hub_cache / "model.safetensors")
    torch.save({"model": weights}, hub_cache / "small.pth")
    (hub_cache / "config.json").unlink()
    source = hub.Source("hub file", "someone/tiny-vit", pattern=pattern)
    if message is None:
        assert hub.hub_file(source) == hub_cache / "small.pth"
    else:
        with pytest.raises(UnipError, match=f"hf:someone/tiny-vit: {message}"):
            hub.hub_file(source)
    with pytest.raises(UnipError, match="could not be reached for someone/other"):
        hub.hub_file(hub.Source("hub file", "someone/other", pattern=pattern))
