import filecmp
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.segmentation.conftest import VIT
from tests.test_opening import answer
from unip.data.labelled.classes import Classes
from unip.errors import UnipError
from unip.outputs import output_folder
from unip.segmentation.model import Segmenter, SegmenterSpec
from unip.segmentation.model_folder import model_folder
from unip.segmentation.storage import load_segmenter, save_segmenter
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.vit.spec import build_backbone


@pytest.fixture
def saved(tmp_path, make_segmenter):
    segmenter = make_segmenter()
    save_segmenter(segmenter, tmp_path / "run" / "model", info={"data": "here", "miou": 0.5})
    return segmenter, tmp_path / "run"


def test_round_trip(saved):
    segmenter, run = saved
    images = torch.randint(0, 256, (1, 3, 20, 30), dtype=torch.uint8)
    for path in (run, run / "model", str(run)):
        loaded = load_segmenter(path)
        assert not loaded.training
        assert loaded.spec == segmenter.spec
        assert torch.equal(loaded(images), segmenter(images))


def test_own_head_count_of_the_last_block_is_kept(tmp_path, make_segmenter):
    spec = BackboneSpec(
        arguments={"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}, last_heads=8
    )
    save_segmenter(make_segmenter(backbone=spec), tmp_path / "m")
    assert load_segmenter(tmp_path / "m").backbone.blocks[-1].attn.num_heads == 8
    assert load_backbone(str(tmp_path / "m")).model.blocks[-1].attn.num_heads == 8


def test_the_bare_file_is_the_backbone_of_the_folder(tmp_path, make_segmenter):
    """The tensors alone would say 3 heads, for 192 channels, and nothing of the preprocessing."""
    arguments = {"img_size": 32, "patch_size": 16, "embed_dim": 192, "depth": 2, "num_heads": 3}
    segmenter = make_segmenter(backbone=BackboneSpec(arguments=arguments, last_heads=12))
    save_segmenter(segmenter, tmp_path / "run" / "model")
    folder = load_backbone(str(tmp_path / "run"))
    file = load_backbone(str(tmp_path / "run" / "model" / "model.safetensors"))
    assert file.model.blocks[-1].attn.num_heads == 12
    assert (file.mean, file.std) == ((0.4, 0.3, 0.2), (0.2, 0.3, 0.4))
    assert (file.spec, file.mean, file.std, file.input_size) == (
        folder.spec,
        folder.mean,
        folder.std,
        folder.input_size,
    )
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        outputs = [model.eval()(images) for model in (file.model, folder.model, segmenter.backbone)]
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


def test_files(saved):
    _, run = saved
    folder = run / "model"
    assert sorted(os.listdir(folder)) == ["README.md", "config.json", "model.safetensors"]
    assert any(name.startswith("backbone.blocks.0.") for name in load_file(folder / "model.safetensors"))
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((folder / "model.safetensors").stat().st_mode) == 0o666 & ~mask
    card = (folder / "README.md").read_text()
    assert "1 hot" in card and "unip predict" in card and '- data: "here"' in card
    assert json.loads((folder / "config.json").read_text())["info"]["miou"] == 0.5


def save_two_folders(out):
    info = {"data": "here", "miou": 0.5, "teachers": [{"layer": 3, "source": "there"}]}
    torch.manual_seed(0)
    spec = VIT.model_copy(update={"last_heads": 4})
    pixels = {"mean": (0.4, 0.3, 0.2), "std": (0.2, 0.3, 0.4)}
    save_backbone(build_backbone(spec), spec, out / "backbone", input_size=32, info=info, **pixels)
    sizes = {"layers": (4,), "channels": 8, "short_side": 32, "crop": 32, "stride": 21}
    classes = Classes(("a", "b"))
    whole = SegmenterSpec(backbone=spec, classes=classes, decoder="light", pyramid="llfpn", **sizes, **pixels)
    save_segmenter(Segmenter(whole), out / "segmenter", info=info)


SAVE = """
import sys
from pathlib import Path
from tests.segmentation.test_storage import save_two_folders
save_two_folders(Path(sys.argv[1]))
"""


def test_equal_models_make_equal_folders_in_every_process(tmp_path):
    """Here, where hashes of text start from one seed, and in a process where they start from another."""
    save_two_folders(tmp_path / "here")
    there = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "PYTHONPATH": there,
        "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1",
    }
    subprocess.run([sys.executable, "-c", SAVE, str(tmp_path / "there")], env=environment, timeout=120, check=True)
    folders = []
    for name in ("here", "there"):
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        folders.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert len(folders[0]) == 6
    assert folders[0] == folders[1]


def test_missing(tmp_path):
    with pytest.raises(UnipError, match="nowhere does not exist"):
        load_segmenter(tmp_path / "nowhere")
    with pytest.raises(UnipError, match="holds no model"):
        model_folder(tmp_path)


def edit(folder, change):
    record = json.loads((folder / "config.json").read_text())
    change(record)
    (folder / "config.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format="unip-backbone-1"), "is not a segmentation model .* 'unip-backbone-1'"),
        (lambda r: r.pop("format"), "is not a segmentation model"),
        (lambda r: r.pop("spec"), "has no whole `spec`"),
        (lambda r: r["spec"].pop("mean"), "spec: mean: field required"),
        (lambda r: r["spec"].update(crops=3), "unknown setting 'crops'"),
        (lambda r: r["spec"].update(channels=9), "does not fit its config.json"),
        (lambda r: r["spec"].update(layers=[7]), "no layer 7"),
    ],
)
def test_damaged_config(saved, change, message):
    _, run = saved
    edit(run / "model", change)
    with pytest.raises(UnipError, match=message):
        load_segmenter(run)


def test_damaged_weights(saved):
    _, run = saved
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UnipError, match=r"cannot read .*model\.safetensors"):
        load_segmenter(run)
    weights.unlink()
    with pytest.raises(UnipError, match=r"cannot read .*model\.safetensors"):
        load_segmenter(run)


def test_a_failed_save_leaves_the_old_model(saved, monkeypatch):
    segmenter, run = saved

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unip.segmentation.storage.write_tensors", full)
    shutil.copytree(run / "model", run / "before")
    with output_folder(run) as outputs:
        for path in (run / "model").iterdir():  # as a call before has left them
            outputs.grow(f"model/{path.name}")
    with pytest.raises(UnipError, match="cannot write"), output_folder(run):
        save_segmenter(segmenter, run / "model")
    assert not filecmp.dircmp(run / "before", run / "model").diff_files
    assert load_segmenter(run).spec == segmenter.spec


BAD_SPECS = {
    "depth": {"backbone": {"arguments": {"depth": 1_000_000}}},
    "wide backbone": {"backbone": {"arguments": {"embed_dim": 8192, "num_heads": 64, "depth": 4}}},
    "large backbone": {"backbone": {"timm_name": "vit_giant_patch14_dinov2"}, "layers": [40]},
    "patches of a pixel": {"backbone": {"arguments": {"patch_size": 1, "embed_dim": 16, "depth": 4, "num_heads": 2}}},
    "channels": {"channels": 1_000_000},
    "many channels": {"channels": 8192, "decoder": "upernet"},
    "many layers": {"layers": list(range(1, 5)) * 1000},
    "short side": {"short_side": 1_000_000},
    "crop": {"crop": 1_000_000},
    "large crop": {"crop": 4096, "stride": 4096},
    "stride": {"stride": 1},
    "no stride": {"stride": 0},
    "std of 0": {"std": [0, 1, 1]},
    "negative std": {"std": [-1, 1, 1]},
    "infinite std": {"std": [float("inf"), 1, 1]},
    "NaN": {"mean": [float("nan"), 0, 0]},
    "auxiliary weight": {"auxiliary_weight": float("nan")},
}


@pytest.mark.parametrize("kind", BAD_SPECS)
def test_a_spec_that_would_fill_the_memory_or_never_end(tmp_path, kind):
    save_two_folders(tmp_path)
    file = tmp_path / "segmenter/config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "spec": {**config["spec"], **BAD_SPECS[kind]}}))
    told = answer(lambda: load_segmenter(tmp_path / "segmenter"))
    assert told.startswith(("UnipError: ", "DocumentError: ")) and "segmenter" in told, told
