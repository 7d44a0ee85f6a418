import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.record import check_labels
from unip.data.labelled.statistics import LabelFacts, measure_pair
from unip.data.sampling.segmentation_crops import SegmentationTrainDataset
from unip.deployment.verbs import evaluate, predict
from unip.errors import UnipError
from unip.segmentation import defaults
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.defaults import TaskFacts, choose
from unip.segmentation.preparing import build
from unip.segmentation.storage import load_segmenter
from unip.segmentation.training_data import make_transform
from unip.segmentation.verbs import finetune
from unip.training.optim import parameter_groups
from unip.vit.backbone import load_backbone


def resolved(config, backbone, images=10):
    """Resolve against frames of 40 x 32 pixels with three classes."""
    labels = LabelFacts(dict.fromkeys("abc", 1) | {"ignore": 0}, np.full((images, 2), (32, 40)), np.full(5, 12.0))
    return choose(config, TaskFacts.of(labels, backbone, on_gpu=False, ranks=1))[0]


@pytest.fixture
def settings(small_run):
    return {
        **small_run,
        "recipe": "paper",
        "steps": 3,
        "batch_size": 2,
        "crop": 32,
        "base": (128, 32),
        "log_every": 1,
        "compile": False,
    }


def test_finetune_evaluate_predict(settings, capsys):
    result = finetune(**settings, val="test")
    run = settings["out"]
    assert result.training.steps == 3
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3]
    assert {"loss", "loss_main", "loss_aux", "pixel_accuracy"} <= log[0].keys()
    printed = capsys.readouterr().out
    assert "6 labelled images: background" in printed
    assert "layer decay 0.85, warm-up 0" in printed

    again = evaluate(model=run, data=settings["data"], split="test", device="cpu")
    assert again.scores.matrix.tolist() == result.scores.matrix.tolist()
    assert json.loads((run / "evaluation" / "test" / "metrics.json").read_text())["miou"] == again.scores.miou

    found = predict(model=run, images=(settings["data"] / "test" / "images",), out=run.parent / "p", device="cpu")
    with Image.open(run.parent / "p" / "masks" / "0.png") as mask:
        assert mask.size == (40, 32)
    assert len(found.masks) == 3


def test_it_learns(settings):
    result = finetune(**{**settings, "steps": 60, "decoder": "light", "lr": 3e-3, "log_every": 20, "batch_size": 4})
    log = [json.loads(line) for line in (settings["out"] / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.6 * log[0]["loss"]
    assert result.scores is None


def test_equal_runs_write_equal_models(settings, tmp_path):
    """Nothing of when, where to and how fast is in a model folder."""
    found = []
    for name in ("a", "b"):
        finetune(**{**settings, "out": tmp_path / name}, val="test", eval_every=2)
        found.append({path.name: path.read_bytes() for path in (tmp_path / name / "model").iterdir()})
    assert found[0].keys() == {"README.md", "calibration.json", "config.json", "model.safetensors"}
    assert found[0] == found[1]


def test_a_continued_run_ends_where_an_uninterrupted_one_does(settings, tmp_path):
    finetune(**{**settings, "steps": 4})
    whole = load_segmenter(settings["out"]).state_dict()
    other = {**settings, "steps": 4, "out": tmp_path / "other", "checkpoint_every": 2}
    finetune(**other)
    for path in (tmp_path / "other" / "checkpoints" / "step-00000004").iterdir():
        path.unlink()
    (tmp_path / "other" / "checkpoints" / "step-00000004").rmdir()
    finetune(**other)
    for name, tensor in load_segmenter(tmp_path / "other").state_dict().items():
        assert torch.equal(tensor, whole[name]), name


def test_activation_checkpointing_changes_nothing(settings, tmp_path):
    values = {**settings, "drop_path": 0.5}
    finetune(**values)
    finetune(**{**values, "out": tmp_path / "again", "checkpoint_activations": True})
    whole = load_segmenter(settings["out"]).state_dict()
    for name, tensor in load_segmenter(tmp_path / "again").state_dict().items():
        assert torch.equal(tensor, whole[name]), name
    probe = {**settings, "mode": "linear", "out": tmp_path / "probe"}
    assert finetune(**probe, checkpoint_activations=True).training.steps == 3


def test_the_average_is_saved_and_evaluated(settings):
    result = finetune(**settings, ema=0.99, val="test")
    checkpoint = settings["out"] / "checkpoints" / "step-00000003"
    raw, average = (load_file(checkpoint / f"{name}.safetensors") for name in ("model", "ema"))
    norms = [name for name in raw if "running_mean" in name]
    assert norms and all(name in average for name in norms)
    found = load_segmenter(settings["out"]).state_dict()
    for name, tensor in found.items():
        assert torch.equal(tensor, average.get(name, raw[name])), name
    assert not torch.equal(average["head.classifier.weight"], raw["head.classifier.weight"])
    assert result.scores.miou == evaluate(model=settings["out"], data=settings["data"], split="test").scores.miou


def test_linear_probe_trains_the_classifier_only(settings, capsys):
    finetune(**{**settings, "mode": "linear", "probe_norm": True})
    assert f"{4 * 16 * 3 + 3} of them trained" in capsys.readouterr().out
    probe = load_segmenter(settings["out"])
    assert probe.spec.decoder == "linear" and probe.spec.layers == (1, 2, 3, 4)
    before = load_backbone(settings["model"]).model.state_dict()
    after = probe.backbone.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"decoder": "upernet", "layers": (4,), "channels": 16, "auxiliary_weight": 0.4, "layer_decay": 0.85}),
        ({"decoder": "light"}, {"channels": 128, "auxiliary_weight": 0.0}),
        ({"pyramid": "fpn"}, {"layers": (1, 2, 3, 4)}),
        ({"mode": "linear"}, {"decoder": "linear", "layers": (1, 2, 3, 4), "layer_decay": 1.0}),
        ({"steps": 0, "epochs": 100}, {"steps": 500, "warmup": 50}),
        ({"steps": 0}, {"steps": 500}),
        ({"steps": 40, "epochs": 100}, {"steps": 40}),
        ({"steps": 40_000}, {"warmup": 1500}),
        ({"warmup": 7, "layer_decay": 0.5, "layers": (2,), "channels": 4}, {"warmup": 7, "layer_decay": 0.5}),
    ],
)
def test_auto_is_resolved(settings, changes, expected):
    config = resolved(FinetuneConfig.make(**{**settings, **changes}), load_backbone(settings["model"]))
    assert {key: getattr(config, key) for key in expected} == expected


@pytest.mark.parametrize(("recipe", "of_others"), [("paper", 0.65), ("fast", 0.85)])
def test_layer_decay_by_origin(settings, recipe, of_others):
    config = FinetuneConfig.make(**{**settings, "recipe": recipe})
    scratch, other = load_backbone("unip_micro"), load_backbone(settings["model"])
    other.report = dataclasses.replace(other.report, layout="ViT")
    assert resolved(config, scratch).layer_decay == 1.0
    assert resolved(config, other).layer_decay == of_others
    for layout in ("UNIP", "unip"):  # a released file, a run of ours
        other.report = dataclasses.replace(other.report, layout=layout)
        assert resolved(config, other).layer_decay == 0.85
    assert resolved(config.model_copy(update={"mode": "linear"}), other).layer_decay == 1.0


def checked(folder):
    return check_labels(open_segmentation(folder, "train"), "train", measure_pair)


@pytest.mark.parametrize("decay", [0, -0.5, 1.5])
def test_layer_decay_is_a_share(settings, decay):
    with pytest.raises(UnipError, match=r"layer_decay: .*(greater than 0|less than or equal to 1)"):
        FinetuneConfig.make(**settings, layer_decay=decay)


def test_learning_rates_shrink_towards_the_input(settings, segmentation_folder):
    backbone = load_backbone(settings["model"])
    config = resolved(FinetuneConfig.make(**settings, lr=1.0, layer_decay=0.5), backbone)
    segmenter = build(config, backbone, checked(segmentation_folder))
    groups = parameter_groups(segmenter, lr=1.0, weight_decay=0.05, backbone="backbone.", depth=4, layer_decay=0.5)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    of = {name: rate[id(p)] for name, p in segmenter.named_parameters() if p.requires_grad}
    assert of["head.classifier.weight"] == (1.0, 0.05)
    assert of["pyramid.scales.0.0.bias"] == (1.0, 0.0)
    for block in range(4):
        assert of[f"backbone.blocks.{block}.attn.qkv.weight"] == (0.5 ** (4 - block), 0.05)
    assert of["backbone.patch_embed.proj.weight"] == (0.5**5, 0.05)
    assert of["backbone.cls_token"] == (0.5**5, 0.0)


def test_heads_of_the_last_block(settings):
    labels = checked(settings["data"])
    for choice, heads in (("keep", 4), ("uniform", 2)):
        backbone = load_backbone(settings["model"])
        config = resolved(FinetuneConfig.make(**settings, last_heads=choice), backbone)
        segmenter = build(config, backbone, labels)
        assert segmenter.backbone.blocks[-1].attn.num_heads == heads
        assert (segmenter.spec.backbone.last_heads or 2) == heads


def test_dry_run_writes_nothing(settings, capsys):
    assert finetune(**settings, label_budget=4, dry_run=True) is None
    assert not settings["out"].exists()
    printed = capsys.readouterr().out
    assert "4 labelled images" in printed
    assert "levels [(16, 16, 16), (16, 8, 8), (16, 4, 4), (16, 2, 2)], logits (3, 32, 32)" in printed
    assert "nothing was written" in printed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "linear", "decoder": "light"}, "mode linear has no decoder light"),
        ({"batch_size": 1}, "one image at a time"),
        ({"layers": (9,)}, "no layer 9"),
        ({"warmup": 3}, "a warm-up of 3 steps must be shorter than the training of 3"),
        ({"warmup": 7, "steps": 0, "epochs": 2}, "a warm-up of 7 steps must be shorter than the training of 6"),
        ({"split": "trian"}, "is not a segmentation folder"),
        ({"val": "vall"}, "is not a segmentation folder"),
        ({"label_budget": 1.5}, "label_budget 1.5 is above 1, so it is a number of images and must be whole"),
        ({"label_budget": float("inf")}, "label_budget: input should be a finite number, got inf"),
        ({"label_budget": 100}, "100 labelled images are asked for"),
        ({"model": "unip_tny"}, "no backbone 'unip_tny'"),
    ],
)
def test_what_cannot_be(settings, changes, message):
    with pytest.raises(UnipError, match=message):
        finetune(**{**settings, **changes})
    assert not settings["out"].exists()


def test_a_finished_run_may_be_evaluated_on_a_split_named_later(settings):
    assert finetune(**settings).scores is None
    assert finetune(**settings, val="test", cache="none").scores is not None


def test_crops_are_padded_with_the_models_mean(settings):
    """As the model itself pads: what it sees there is 0 after normalisation, up to rounding to levels."""
    data = open_segmentation(settings["data"], "train")
    mean = (0.4, 0.3, 0.2)
    changes = {"crop": 64, "photometric": False, "ratio": (0.5, 0.5)}
    config = resolved(FinetuneConfig.make(**{**settings, **changes}), load_backbone(settings["model"]))
    image, mask = SegmentationTrainDataset(data, make_transform(config, mean))[0]
    assert image.shape == (3, 64, 64)
    for channel, value in zip(image, mean, strict=True):
        assert (channel[16:] == round(255 * value)).all() and (channel[:, 20:] == round(255 * value)).all()
    assert (mask[16:] == 255).all() and (mask[:16, :20] != 255).any()


def test_val_is_checked_before_training(settings):
    path = settings["data"] / "test" / "masks" / "1.png"
    Image.fromarray(np.full((32, 40), 77, np.uint8)).save(path)
    with pytest.raises(UnipError, match="unknown id 77"):
        finetune(**settings, val="test")
    path.unlink()
    (settings["data"] / "test" / "classes.json").write_text(json.dumps({"names": ["background", "cat"]}))
    Image.fromarray(np.zeros((32, 40), np.uint8)).save(path)
    with pytest.raises(UnipError, match="test has the classes"):
        finetune(**settings, val="test")


def test_corruption_while_training(settings, capsys):
    result = finetune(**{**settings, "steps": 2}, corrupt=0.5)
    assert "corrupt: 0.5\n" in (result.run / "config.yaml").read_text()
    assert "crops of 32, 50.0 % of them corrupted" in capsys.readouterr().out


def test_losses_for_rare_classes(settings, capsys):
    finetune(**settings, loss="ce+dice", class_weights="root", hard_pixels=0.25)
    said = capsys.readouterr().out
    assert "loss: cross-entropy, weights root (at most 20): background 0." in said
    assert "of the hardest 25.0 % of the pixels and of all that are not sure, plus soft dice" in said
    log = [json.loads(line) for line in (settings["out"] / "log.jsonl").read_text().splitlines()]
    plain = {**settings, "out": settings["out"].parent / "plain"}
    finetune(**plain)
    assert "loss: cross-entropy\n" in capsys.readouterr().out
    other = [json.loads(line) for line in (plain["out"] / "log.jsonl").read_text().splitlines()]
    assert log[0]["loss"] > other[0]["loss"] + 0.3  # dice of random logits
    for line in log:
        assert line["ce"] + line["dice"] == pytest.approx(line["loss_main"], rel=1e-5)
    assert "ce" not in other[0] and "dice" not in other[0]  # the cross-entropy is all of the loss


def test_crops_for_rare_classes(settings, capsys):
    finetune(**settings, rare_crops=0.5)
    assert "crops of 32, 50.0 % of them drawn for a class (" in capsys.readouterr().out


@pytest.mark.parametrize("dry_run", [True, False])
def test_crops_for_classes_that_no_label_shows(settings, dry_run):
    for file in (Path(settings["data"]) / "train" / "masks").iterdir():
        Image.fromarray(np.zeros((32, 40), np.uint8)).save(file)
    with pytest.raises(UnipError, match="no labelled image shows a class to draw crops for"):
        finetune(**settings, rare_crops=0.5, dry_run=dry_run, empty_classes=("hot", "cold"))
    assert not settings["out"].exists()
    finetune(**settings, dry_run=True, empty_classes=("hot", "cold"))


OPEN = ("recipe", "steps", "crop", "base")  # of the settings above


def write_frames(root, shape, images, side, classes):
    """Frames with one square of every class but the first, in a row."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(images):
        mask = np.zeros(shape, np.uint8)
        for label in range(1, classes):
            left = (label - 1) * shape[1] // (classes - 1)
            mask[:side, left : left + side] = label
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        Image.fromarray(100 + mask).save(root / "images" / f"{number}.png")
    (root / "classes.json").write_text(json.dumps({"names": [f"class {n}" for n in range(classes)]}))
    return root


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (
            ((64, 80), 3, 30, 2),
            ["steps 200: 3 labelled images", "base 1024 256", "large enough", "under 30 px", "crop 256"],
        ),
        (((64, 160), 4, 10, 5), ["base 1024 256", "large enough", "under 10 px"]),
        (((256, 320), 4, 5, 9), ["base 2048 512", "objects are small", "under 5 px", "crop 256", "frames are 320x256"]),
        (((5, 7), 3, 3, 2), ["base 96 24", "enlarged 4 times", "crop 24"]),
    ],
)
def test_a_dry_run_says_what_is_chosen_and_why(settings, tmp_path, capsys, frames, expected):
    given = {key: value for key, value in settings.items() if key not in OPEN} | {"recipe": "fast"}
    data = write_frames(tmp_path / "frames", *frames)
    assert finetune(**{**given, "data": data, "split": "", "dry_run": True}) is None
    said = capsys.readouterr().out
    for words in [*expected, "lr 0.0004: ", "layer decay 0.85: a backbone of unip or UNIP", "ratio 0.75 1.5: "]:
        assert words in said, words


def test_three_tiny_frames_are_enough(settings, tmp_path, monkeypatch):
    """Everything is left open; what was chosen is recorded, repeats the run, and lets it go on."""
    monkeypatch.setattr(defaults, "MIN_STEPS", 50)  # it only has to be quick
    given = {key: value for key, value in settings.items() if key not in OPEN} | {"recipe": "fast"}
    given |= {"data": write_frames(tmp_path / "frames", (5, 7), 3, 3, 2), "split": "", "checkpoint_every": 25}
    result = finetune(**given)
    recorded = FinetuneConfig.from_yaml(result.run / "config.yaml")
    assert (recorded.recipe, recorded.steps, recorded.decoder, recorded.lr) == ("fast", 50, "light", 4e-4)
    assert (recorded.base, recorded.ratio, recorded.photometric) == ((96, 24), (0.75, 1.5), False)
    assert recorded.compile == given["compile"] and recorded.cache_features is False
    assert not any(
        recorded.is_open(name)
        for name in FinetuneConfig.model_fields
        if name not in ("device", "precision", "workers", "cache")
    )
    weights = load_segmenter(result.run).state_dict()
    shutil.rmtree(result.run / "checkpoints" / "step-00000050")
    for config in (
        FinetuneConfig.make(**given),
        FinetuneConfig.from_yaml(result.run / "config.yaml", out=tmp_path / "again"),
    ):
        again = load_segmenter(finetune(config).run).state_dict()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in again.items())
    with pytest.raises(UnipError, match="crop: 24 there, 32 now"):
        finetune(**given, crop=32)


def test_a_gpu_that_is_not_there_is_missed_before_anything_is_written(settings, tmp_path):
    for more, message in (({"cache": "gpu"}, "no GPU to keep frames on"), ({"compile": "graphs"}, "are for one GPU")):
        with pytest.raises(UnipError, match=message):
            finetune(**{**settings, "out": tmp_path / "none", "device": "cpu", "dry_run": True, **more})
    assert not (tmp_path / "none").exists()


def test_frames_without_any_label(settings, tmp_path):
    masks = Path(settings["data"]) / "train" / "masks"
    for file in masks.iterdir():
        Image.fromarray(np.full_like(np.asarray(Image.open(file)), 255)).save(file)
    with pytest.raises(UnipError, match=r"\(train\) has no labelled pixel"):
        finetune(**settings)
    flat = {key: value for key, value in settings.items() if key != "split"} | {"data": masks.parent}
    shutil.copy(Path(settings["data"]) / "classes.json", masks.parent)
    with pytest.raises(UnipError, match=r"\(no split\) has no labelled pixel"):
        finetune(**{**flat, "val": None, "val_share": 0})


def test_a_folder_without_splits_is_taken_whole(settings, caplog):
    flat = settings["data"] / "train"
    (flat / "classes.json").write_bytes((settings["data"] / "classes.json").read_bytes())
    values = {key: value for key, value in settings.items() if key not in ("split", "val", "val_share")}
    caplog.set_level("INFO", "unip")
    for _ in range(2):  # and the run can be called again
        result = finetune(**{**values, "data": flat, "val_share": 0})
    assert "has no splits: all its labelled images are taken" in caplog.text
    info = json.loads((result.run / "model/config.json").read_text())["info"]
    assert info["split"] == "" and info["labelled_images"] == len(list((flat / "images").iterdir()))


def test_a_card_that_cannot_be_read_is_refused_before_training(settings):
    (settings["data"] / "dataset.json").write_text('{"licence": 4}')
    with pytest.raises(UnipError, match="texts for name, licence and source"):
        finetune(**settings)
    assert not (settings["out"] / "checkpoints").exists()
    (settings["data"] / "dataset.json").write_text('{"name": "Yard", "licence": "CC-BY-4.0"}')
    run = finetune(**settings).run
    (card,) = [
        one
        for one in json.loads((run / "model/config.json").read_text())["lineage"]["ancestors"]
        if one["role"] == "data"
    ]
    assert (card["name"], card["licence"]) == ("Yard", "CC-BY-4.0")
