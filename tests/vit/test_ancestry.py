"""What a model inherits from the backbone that it is made from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from unip.vit.ancestry import ancestors_of
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.vit.spec import build_backbone
from unip.zoo.lineage import Ancestor, Lineage

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}


def save(folder: Path, lineage: Lineage | None) -> Path:
    spec = BackboneSpec(arguments=SMALL)
    model = build_backbone(spec)
    return save_backbone(model, spec, folder, mean=(0.4,) * 3, std=(0.2,) * 3, input_size=32, info={}, lineage=lineage)


def test_a_folder_brings_its_own_ancestors(tmp_path: Path) -> None:
    teacher = Ancestor(role="teacher", name="mae-large", licence="CC-BY-NC-4.0")
    folder = save(tmp_path / "student" / "model", Lineage.of([teacher]))
    itself, inherited = ancestors_of(load_backbone(str(folder)), "init")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert (itself.role, itself.name, itself.sha256, itself.licence) == ("init", "student", digest, None)
    assert inherited == teacher.model_copy(update={"through": "student"})
    assert "CC-BY-NC-4.0" in (folder / "README.md").read_text()


def test_a_folder_without_a_lineage_is_an_ancestor_all_the_same(tmp_path: Path) -> None:
    assert [one.name for one in ancestors_of(load_backbone(str(save(tmp_path / "old", None))), "teacher")] == ["old"]


def test_names_have_the_licence_that_is_stated(tmp_path: Path) -> None:
    itself, *inherited = ancestors_of(load_backbone("unip-ir-tiny"), "init")
    assert (itself.name, itself.licence) == ("unip-ir-tiny", "Apache-2.0")
    assert {one.through for one in inherited} == {"unip-ir-tiny"}
    model = load_backbone("timm:vit_tiny_patch16_224", random_weights=True).model
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    (named,) = ancestors_of(load_backbone(f"timm:vit_tiny_patch16_224@{tmp_path / 'w.safetensors'}"), "teacher")
    assert (named.licence, named.source) == ("apache-2.0", None)
    assert named.note == "weights from a file; the licence is that of the name"
    torch.save(model.state_dict(), tmp_path / "w.pth")
    (unknown,) = ancestors_of(load_backbone(str(tmp_path / "w.pth")), "teacher")
    assert unknown.licence is None and unknown.hinders


def test_random_weights_have_no_ancestors() -> None:
    assert ancestors_of(load_backbone("unip_micro"), "init") == []
