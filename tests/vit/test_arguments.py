"""Arguments of a backbone that come from files: only what shapes a plain ViT, whichever file brings them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models import get_pretrained_cfg, is_model_in_modules, list_models

from unip.data.labelled.classes import Classes
from unip.errors import UnipError
from unip.segmentation.model import Segmenter, SegmenterSpec
from unip.segmentation.storage import load_segmenter, save_segmenter
from unip.vit.architecture import BackboneSpec, read_spec
from unip.vit.arguments import ALLOWED, check_arguments
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.vit.hub import hub_model
from unip.vit.infer import infer_spec
from unip.vit.sources import parse_source
from unip.vit.spec import DENSE_ARGUMENTS, build_backbone
from unip.vit.student import STUDENTS
from unip.vit.weights import read_checkpoint

SMALL = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 3}
NAME = "vit_tiny_patch16_224"


class Marker:
    """A pickle of it makes a file when it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def of_folder(root: Path, extra: dict[str, Any]) -> str:
    spec = BackboneSpec(timm_name=NAME, arguments=SMALL)
    folder = save_backbone(
        build_backbone(spec), spec, root / "model", mean=(0.5,) * 3, std=(0.5,) * 3, input_size=32, info={}
    )
    config = json.loads((folder / "config.json").read_text())
    config["spec"]["arguments"].update(extra)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def of_run_folder(root: Path, extra: dict[str, Any]) -> str:
    return str(Path(of_folder(root, extra)).parent)


def of_metadata(root: Path, extra: dict[str, Any]) -> str:
    file = Path(of_folder(root, {})) / "model.safetensors"
    config = json.loads((file.parent / "config.json").read_text())
    config["spec"]["arguments"].update(extra)
    save_file(load_file(file), root / "bare.safetensors", {"unip": json.dumps(config)})
    return str(root / "bare.safetensors")


def segmenter(root: Path, extra: dict[str, Any]) -> Path:
    spec = SegmenterSpec(
        backbone=BackboneSpec(timm_name=NAME, arguments=SMALL),
        classes=Classes(("background", "hot")),
        decoder="linear",
        layers=(2,),
        channels=8,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    save_segmenter(Segmenter(spec), root / "segmenter")
    config = json.loads((root / "segmenter" / "config.json").read_text())
    config["spec"]["backbone"]["arguments"].update(extra)
    (root / "segmenter" / "config.json").write_text(json.dumps(config))
    return root / "segmenter"


def of_segmenter(root: Path, extra: dict[str, Any]) -> str:
    return str(segmenter(root, extra))


def of_hub(root: Path, extra: dict[str, Any]) -> str:
    """A Hugging Face cache with a tiny timm model in it."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = root / "cache" / "models--someone--tiny"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    state = build_backbone(BackboneSpec(timm_name=NAME, arguments=SMALL)).state_dict()
    save_file(state, snapshot / "model.safetensors")
    config = {"architecture": NAME, "model_args": {**SMALL, **extra}, "pretrained_cfg": {"input_size": [3, 32, 32]}}
    (snapshot / "config.json").write_text(json.dumps(config))
    return "hf:someone/tiny"


DOORS = {
    "model folder": (of_folder, load_backbone),
    "run folder": (of_run_folder, load_backbone),
    "metadata": (of_metadata, load_backbone),
    "segmenter's backbone": (of_segmenter, load_backbone),
    "segmenter": (of_segmenter, load_segmenter),
    "hub": (of_hub, load_backbone),
}
doors = pytest.mark.parametrize(("make", "load"), DOORS.values(), ids=DOORS)


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@doors
def test_a_checkpoint_path_is_refused_and_its_pickle_is_never_run(tmp_path: Path, make: Any, load: Any) -> None:
    torch.save({"state_dict": Marker(tmp_path / "ran")}, tmp_path / "evil.pth")
    source = make(tmp_path, {"checkpoint_path": str(tmp_path / "evil.pth")})
    with pytest.raises(UnipError, match="argument 'checkpoint_path' is not allowed") as refused:
        load(source)
    assert source.removeprefix("hf:") in refused.value.what  # where it came from
    assert "Allowed are img_size, patch_size" in refused.value.fix
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert (tmp_path / "ran").exists()  # it would have


@pytest.mark.parametrize(
    "extra",
    [
        {"pretrained": True},
        {"pretrained_cfg": {"file": "/tmp/x.pth"}},
        {"pretrained_cfg_overlay": {"file": "/tmp/x.pth"}},
        {"cache_dir": "/tmp"},
        {"features_only": True},
        {"scriptable": True},
        {"device": "cuda"},
        {"block_fn": "timm.models.vision_transformer.ParallelThingsBlock"},
        {"embed_layer": "os.system"},
        {"norm_layer": "os.system"},
        {"img_size": "/etc/passwd"},
    ],
    ids=lambda extra: next(iter(extra)),
)
@doors
def test_what_does_not_shape_a_vit_is_refused(tmp_path: Path, make: Any, load: Any, extra: dict[str, Any]) -> None:
    with pytest.raises(UnipError, match=f"backbone argument '?{next(iter(extra))}"):
        load(make(tmp_path, extra))


@doors
def test_what_shapes_it_passes(tmp_path: Path, make: Any, load: Any) -> None:
    load(make(tmp_path, {"mlp_ratio": 4, "qkv_bias": True, "class_token": True}))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"depth": value} for value in (True, 0, -1, 1.0, "2", 10**9, None, [2])),
        *({"embed_dim": value} for value in (False, 0, 10**7, 48.0, float("nan"))),
        *({"img_size": value} for value in ([32], [32, 32, 32], [32, -1], [32, True], 10**6, {"height": 1}, len)),
        *({"mlp_ratio": value} for value in (0, -1.0, float("nan"), float("inf"), True, "4", 1e9, 10**400)),
        *({"qkv_bias": value} for value in (1, "true", None)),
        *({"init_values": value} for value in (float("nan"), -1, "1e-5")),
        *({"act_layer": value} for value in (torch.nn.GELU, "os.system", 3)),
        *({"pos_embed": value} for value in ("/tmp/x.npy", None)),
        {"reg_tokens": -1},
        {"num_heads": 10**6},
        {"global_pool": "map"},
    ],
    ids=lambda wrong: "{}={!r:.20}".format(*next(iter(wrong.items()))),
)
def test_values_of_a_wrong_type_or_size_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UnipError, match=f"backbone argument {next(iter(wrong))} cannot be "):
        BackboneSpec(arguments={**SMALL, **wrong})


def test_a_model_that_no_machine_holds_is_refused() -> None:
    with pytest.raises(UnipError, match="about 103 billion parameters"):
        check_arguments({"embed_dim": 8192, "depth": 128})
    with pytest.raises(UnipError, match="billion parameters"):
        check_arguments({"img_size": 16384, "patch_size": 1, "embed_dim": 1024})
    check_arguments({"img_size": 512, "patch_size": 16, "embed_dim": 4096, "depth": 40})  # DINOv3 7B


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "describes no backbone"),
        ({"arguments": [1]}, "arguments: input should be a valid dictionary"),
        ({"timm_name": "hf-hub:someone/model"}, "timm_name"),
        ({"timm_name": "local-dir:/tmp/model"}, "timm_name"),
        ({"last_heads": True}, "last_heads"),
        ({"last_heads": 0}, "last_heads"),
    ],
)
def test_specs_that_are_none(values: Any, message: str) -> None:
    with pytest.raises(UnipError, match=rf"^there/config\.json: .*{message}"):
        read_spec(values, "there/config.json")


@pytest.mark.parametrize("text", ["[]", "{}", '{"spec": 3}', "{", "[" * 100_000])
def test_a_damaged_description_in_a_file_is_refused(tmp_path: Path, text: str) -> None:
    save_file(build_backbone(STUDENTS["unip_micro"]).state_dict(), tmp_path / "x.safetensors", {"unip": text})
    if text == "{}":  # nothing is said: the tensors tell
        text = '{"mean": [0, 0, 0]}'
        save_file(load_file(tmp_path / "x.safetensors"), tmp_path / "x.safetensors", {"unip": text})
    with pytest.raises(UnipError, match=r"x\.safetensors.* (its own description is damaged|it describes no backbone)"):
        load_backbone(str(tmp_path / "x.safetensors"))


def test_training_arguments_of_a_hub_model_are_left_out(tmp_path: Path) -> None:
    extra = {"drop_path_rate": 0.4, "num_classes": 10, "dynamic_img_size": False, "global_pool": "token"}
    spec, _, _ = hub_model(parse_source(of_hub(tmp_path, extra)))
    assert spec.arguments == SMALL


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pretrained_cfg": {"input_size": "large"}}, "input_size is 'large'"),
        ({"pretrained_cfg": {"input_size": [3, 10**9, 10**9]}}, "img_size cannot be 1000000000"),
        ({"pretrained_cfg": [1]}, "are not as timm's"),
        ({"model_args": [["checkpoint_path", "x"]]}, "are not as timm's"),
    ],
)
def test_a_hub_config_of_wrong_types_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    source = of_hub(tmp_path, {})
    file = next((tmp_path / "cache").rglob("config.json"))
    file.write_text(json.dumps({"architecture": NAME, **changed}))
    with pytest.raises(UnipError, match=message):
        load_backbone(source)


def test_arguments_told_from_tensors_and_those_of_students_pass(tmp_path: Path) -> None:
    for spec in STUDENTS.values():
        check_arguments(spec.arguments)
    arguments = {"img_size": 32, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 1}
    more = {"qk_norm": True, "init_values": 1e-5, "reg_tokens": 2, "no_embed_class": True, "class_token": False}
    save_file(build_backbone(BackboneSpec(arguments=arguments | more)).state_dict(), tmp_path / "x.safetensors")
    assert infer_spec(read_checkpoint(tmp_path / "x.safetensors")).arguments == {
        **arguments,
        **more,
        "mlp_ratio": 4.0,
        "qkv_bias": True,
    }


def test_every_argument_is_one_of_timm() -> None:
    """Names that no architecture takes would be promises that nothing keeps."""
    import inspect

    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    known = {*inspect.signature(VisionTransformer).parameters, *inspect.signature(Eva).parameters}
    assert set(ALLOWED) <= known


def test_the_input_sizes_of_all_plain_vits_pass() -> None:
    names = [name for name in list_models() if is_model_in_modules(name, set(DENSE_ARGUMENTS))]
    assert len(names) > 100
    for name in names:
        described = get_pretrained_cfg(name)
        if described is not None:
            check_arguments({"img_size": described.input_size[1]})
