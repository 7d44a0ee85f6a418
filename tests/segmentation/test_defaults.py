"""Settings that follow the data: data sets of different character, in facts only."""

import numpy as np
import pytest

from unip.data.labelled.statistics import LabelFacts
from unip.errors import UnipError
from unip.segmentation import defaults
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.defaults import TaskFacts, choose


@pytest.fixture(autouse=True)
def _much_memory(monkeypatch):
    monkeypatch.setattr(defaults, "use_ram", lambda cache, size: True)


def facts(
    *,
    frame=(512, 640),
    images=912,
    objects=(60.0,),
    classes=5,
    pixels=(),
    init="pre-trained",
    on_gpu=True,
    ranks=1,
    patch=16,
    coloured=0.0,
):
    pixels = (*pixels, *[1] * (classes - len(pixels)))
    counts = {f"class {number}": count for number, count in enumerate(pixels)} | {"ignore": 10**9}
    sizes = np.array([frame] * images, dtype=np.int64)
    return TaskFacts(
        LabelFacts(counts, sizes, np.array(objects), coloured),
        init,
        patch,
        width=192,
        depth=12,
        on_gpu=on_gpu,
        ranks=ranks,
    )


def chosen(given=None, **of_facts):
    config = FinetuneConfig.make(**{"model": "m", "data": "d", "out": "o", "recipe": "fast", **(given or {})})
    resolved, lines = choose(config, facts(**of_facts))
    values = {name: value for name, value in resolved if config.is_open(name) and name in defaults.CHOOSERS}
    settled = {name for name in ("recipe", "mode", "minutes") if config.is_open(name)}
    given = {name: value for name, value in config if name not in {*values, *settled}}
    assert resolved.model_dump().items() >= (given | values).items()
    return values, {line.split(": ")[0]: line for line in lines}


def test_the_paper_to_the_letter():
    """As shared facts of the method say, whatever the data and the device."""
    paper = {"recipe": "paper"}
    small = {"on_gpu": False, "objects": [3.0], "frame": (24, 32), "classes": 150, "pixels": (10**6,)}
    for of_facts in ({}, small):
        values, _ = chosen(paper, **of_facts)
        assert values == {
            "decoder": "upernet",
            "layers": (12,),
            "channels": 192,
            "auxiliary_weight": 0.4,
            "loss": "ce",
            "rare_crops": 0.0,
            "flip": 0.5,
            "steps": 11400,
            "warmup": 1140,
            "lr": 1e-4,
            "layer_decay": 0.65,
            "base": (2048, 512),
            "crop": 512,
            "ratio": (0.5, 2.0),
            "photometric": True,
            "cache_features": False,
        }
    assert chosen(paper, images=2000)[0]["warmup"] == 1500
    assert chosen(paper, init="distilled")[0]["layer_decay"] == 0.85
    probe, _ = chosen({**paper, "mode": "linear"})
    assert probe["decoder"] == "linear" and probe["layers"] == (4, 6, 8, 12)
    assert (probe["lr"], probe["ratio"], probe["cache_features"]) == (1e-4, (0.5, 2.0), False)


def test_what_was_measured_on_hit_uav_is_chosen_for_its_like():
    values, lines = chosen(objects=[13.0, 22.0, 54.0])
    assert values["decoder"] == "light" and values["photometric"] is False
    assert (values["lr"], values["layer_decay"], values["steps"]) == (4e-4, 0.85, 1200)
    assert (values["crop"], values["base"], values["ratio"]) == (512, (4096, 1024), (0.75, 1.5))
    assert lines["base 4096 1024"].endswith(
        "objects are small: half of the objects (connected regions) are under 22 px across, frames are 640x512"
    )
    assert lines["crop 512"] == "crop 512: for a GPU; frames are 640x512, resized to short side 1024"
    assert lines["steps 1200"] == "steps 1200: 912 labelled images, 10.5 epochs"


def test_large_objects_and_large_frames():
    assert chosen(objects=[33.0])[0]["base"] == (2048, 512)
    assert chosen(objects=[31.0])[0]["base"] == (4096, 1024)
    # counted in the resized frame, and by the side of the model's patches
    assert chosen(frame=(1024, 1280), objects=[60.0])[0]["base"] == (4096, 1024)
    assert chosen(frame=(1024, 1280), objects=[70.0])[0]["base"] == (2048, 512)
    assert chosen(objects=[31.0], patch=8)[0]["base"] == (2048, 512)
    assert chosen(objects=[])[0]["base"] == (2048, 512)


@pytest.mark.parametrize(
    ("frame", "patch", "short", "crop"),
    [
        ((120, 160), 16, 480, 480),
        ((32, 40), 16, 128, 128),
        ((8, 12), 16, 32, 32),
        ((5, 5), 16, 32, 32),  # a frame smaller than a patch
        ((1, 1), 14, 28, 28),
        ((512, 640), 14, 518, 518),
        ((60, 80), 14, 252, 252),
    ],
)
def test_tiny_frames_and_other_patches(frame, patch, short, crop):
    values, _ = chosen(frame=frame, objects=[float(min(frame))], patch=patch)
    assert (values["base"], values["crop"]) == ((4 * short, short), crop)
    assert short % patch == 0 and crop % patch == 0


def test_frames_of_several_sizes_are_told():
    several = facts()
    several.labels.sizes[7] = (120, 160)
    assert several.frames == "frames are 640x512, the smallest 160x120"


@pytest.mark.parametrize(
    ("images", "gpu", "cpu"), [(3, 200, 200), (20, 250, 200), (91, 1138, 284), (912, 1200, 300), (3000, 3750, 937)]
)
def test_steps(images, gpu, cpu):
    assert chosen(images=images)[0]["steps"] == gpu
    assert chosen(images=images, on_gpu=False)[0]["steps"] == cpu
    assert chosen({"mode": "linear"}, images=images, on_gpu=False)[0]["steps"] == gpu
    assert chosen({"epochs": 10, "batch_size": 4}, images=images)[0]["steps"] == -(-10 * images // 4)
    for on_gpu in (True, False):
        assert chosen(images=10**5, on_gpu=on_gpu)[0]["steps"] == defaults.MAX_STEPS


def test_a_cpu_gets_less_to_do():
    values, lines = chosen(on_gpu=False, objects=[20.0])
    assert (values["base"], values["crop"]) == ((2048, 512), 256)
    assert "1024 on a GPU, half of it on a CPU" in lines["base 2048 512"] and lines["steps 300"].endswith(
        "; on a GPU 1200"
    )
    assert "GPU" not in chosen(on_gpu=False, images=3)[1]["steps 200"]


def test_many_classes():
    assert chosen(classes=2)[0]["channels"] == 128
    values, lines = chosen(classes=150)
    assert values["channels"] == 150 and "as many as classes" in lines["channels 150"]
    assert chosen({"decoder": "upernet"}, classes=150)[0]["channels"] == 192


def test_rare_classes_get_dice_and_crops_of_their_own():
    values, lines = chosen(pixels=(974_000, 5_000, 20_000, 0, 1_000))
    assert (values["loss"], values["rare_crops"]) == ("ce+dice", 0.33)
    rare = "rare, of the labelled pixels: class 4 0.1 %, class 1 0.5 %, class 2 2 %"
    assert lines["loss ce+dice"] == f"loss ce+dice: {rare}"
    assert lines["rare crops 0.33"] == f"rare crops 0.33: {rare}"
    assert chosen(classes=150, pixels=(10**6,))[1]["loss ce+dice"].endswith(" and 146 more")
    assert "loss" not in chosen({"loss": "ce"}, pixels=(10**6,))[0]


@pytest.mark.parametrize(
    ("given", "pixels"),
    [
        ({}, (1,) * 5),
        ({}, (0,) * 5),
        ({}, (948, 52)),  # just above a tenth of a half
        ({"mode": "linear"}, (10**6, 1)),
        ({"recipe": "paper"}, (10**6, 1)),
        ({"class_weights": "root"}, (10**6, 1)),  # the user's own remedy
        ({"hard_pixels": 0.2}, (10**6, 1)),
    ],
)
def test_where_no_class_is_rare_nothing_is_done_about_it(given, pixels):
    values, lines = chosen(given, pixels=pixels, classes=len(pixels))
    assert (values["loss"], values["rare_crops"]) == ("ce", 0.0)
    assert not [line for line in lines if line.startswith(("loss", "rare"))]
    assert chosen(pixels=(952, 48), classes=2)[0]["loss"] == "ce+dice"


def test_channels_are_not_printed_where_they_mean_nothing():
    for given in ({"mode": "linear"}, {"decoder": "linear"}):
        values, lines = chosen(given)
        assert values["channels"] == 192 and not [line for line in lines if line.startswith("channels")]
    assert "channels 128" in chosen()[1] and "channels 192" in chosen({"decoder": "upernet"})[1]


def test_natural_colours_are_distorted_and_infrared_is_not():
    for coloured, given, expected, why in (
        (0.0, {}, "no", "infrared brightness has a meaning"),
        (0.5, {}, "no", "infrared brightness has a meaning"),
        (0.6, {}, "yes", "frames are in natural colours, which change with light and camera"),
        (1.0, LINEAR, "no", "a single layer is hard to overfit"),
        (1.0, {"recipe": "paper"}, "yes", "the paper's"),
    ):
        values, lines = chosen(given, coloured=coloured)
        assert values["photometric"] is (expected == "yes")
        assert lines[f"photometric {expected}"] == f"photometric {expected}: {why}"


def test_what_is_given_wins_and_is_followed():
    given = {"decoder": "upernet", "steps": 50, "base": (400, 100), "lr": 1.0, "ratio": (1, 1), "photometric": True}
    values, _ = chosen(given)
    assert not values.keys() & given.keys()
    assert (values["auxiliary_weight"], values["warmup"], values["crop"]) == (0.4, 5, 112)
    everything = {**given, **values}
    assert chosen(everything) == ({}, {})


LINEAR = {"mode": "linear"}


def test_features_are_kept_where_that_is_less_work(monkeypatch):
    """Frames doubled have 3 x 2 windows of 512 pixels, twice with their mirror images."""
    few, lines = chosen(LINEAR, images=80, objects=[20.0])
    assert few["cache_features"] is True and few["ratio"] == (1.0, 1.0) and few["lr"] == 4e-3
    assert lines["cache features yes"].endswith("the frames have 960 windows, training sees 8,000 crops")
    assert chosen(LINEAR, images=912, objects=[20.0])[0]["cache_features"] is False  # 10,944 windows, 9,600 crops
    assert chosen({**LINEAR, "flip": 0}, images=912, objects=[20.0])[0]["cache_features"] is True
    assert chosen({**LINEAR, "cache_features": False}, images=80)[0]["ratio"] == (0.75, 1.5)
    monkeypatch.setattr(defaults, "use_ram", lambda cache, size: size < 160 * 1024 * 1280 * (1 + 2 * 4 * 192 / 256))
    values, lines = chosen(LINEAR, images=80, objects=[20.0])
    assert values["cache_features"] is False and "1.37 GiB are more than" in lines["cache features no"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "full"}, "only those of a frozen backbone stay the same"),
        ({"ratio": (0.5, 2.0)}, "resized at random"),
        ({"photometric": True}, "distorted at random"),
        ({"corrupt": 0.1}, "corrupted at random"),
        ({"rare_crops": 0.3}, "cut around objects"),
        ({"recipe": "paper"}, "distorted at random"),
    ],
)
def test_features_that_change_are_not_kept(changes, message):
    values, lines = chosen({**LINEAR, **changes})
    assert values["cache_features"] is False and message in lines["cache features no"]
    with pytest.raises(UnipError, match=f"features cannot be cached: .*{message}"):
        chosen({**LINEAR, **changes, "cache_features": True})


def test_features_that_do_not_fit_the_memory(monkeypatch):
    """What was chosen stays so in a run that is continued while others use the memory."""
    monkeypatch.setattr(defaults, "use_ram", lambda cache, size: False)
    values, lines = chosen(LINEAR, images=80)
    assert values["cache_features"] is False and values["ratio"] == (0.75, 1.5)
    assert "GiB are more than a quarter of the free memory" in lines["cache features no"]
    assert chosen({**LINEAR, "cache_features": True}, images=80)[0]["ratio"] == (1.0, 1.0)


def test_features_are_not_kept_by_several_processes():
    """Each would compute all of them, and might see another amount of free memory."""
    values, lines = chosen(LINEAR, images=80, ranks=2)
    assert values["cache_features"] is False and "each of 2 processes" in lines["cache features no"]


def test_adapters_and_frozen_layers():
    for recipe in ("fast", "paper"):
        values = chosen({"recipe": recipe, "lora": 4})[0]
        assert (values["layer_decay"], values["lr"]) == (1.0, 1e-3 if recipe == "fast" else 1e-4)
    for option in ("lora", "freeze_layers"):
        with pytest.raises(UnipError, match=f"{option} leaves weights as they are, and those of m are random"):
            chosen({option: 1}, init="scratch")


QUICK = {"recipe": "quick"}


@pytest.mark.parametrize("on_gpu", [True, False])
@pytest.mark.parametrize(
    ("frame", "objects", "base"),
    [((480, 720), 28.5, (2048, 512)), ((512, 640), 21.0, (4096, 1024)), ((512, 640), 60.0, (2048, 512))],
)
def test_quick_is_the_same_on_every_machine(on_gpu, frame, objects, base):
    """Streets and drones like those of docs/results.md: only small objects are worth larger frames."""
    values, _ = chosen(QUICK, frame=frame, objects=[objects], images=150, on_gpu=on_gpu)
    assert (values["decoder"], values["layers"], values["channels"]) == ("conv", (4, 6, 8, 12), 128)
    assert (values["base"], values["crop"], values["ratio"]) == (base, 256, (1.0, 1.0))
    assert (values["steps"], values["lr"], values["layer_decay"]) == (400, 2e-3, 1.0)
    assert (values["flip"], values["cache_features"]) == (0.5, True)


def test_quick_follows_what_is_given():
    given = {**QUICK, "steps": 50, "flip": 0.0, "decoder": "light", "pyramid": "fpn", "base": (640, 320)}
    values, _ = chosen(given)
    assert values["layers"] == (4, 6, 8, 12) and values["warmup"] == 5 and "steps" not in values
    assert chosen({**QUICK, "epochs": 2.0}, images=400)[0]["steps"] == 100
    natural = chosen(QUICK, coloured=1.0)[0]  # distorted colours have no cached features
    assert (natural["photometric"], natural["cache_features"]) == (False, True)
    rare = chosen(QUICK, pixels=(10**6,))[0]
    assert (rare["loss"], rare["rare_crops"]) == ("ce+dice", 0.0)  # crops around objects have no cached features


def test_a_frozen_backbone_of_the_other_recipes():
    values, _ = chosen({"mode": "frozen"}, images=80)
    assert (values["decoder"], values["lr"], values["cache_features"]) == ("conv", 2e-3, True)
    assert chosen({"mode": "frozen", "recipe": "paper"})[0]["decoder"] == "upernet"


def test_few_labels_are_told_and_change_no_setting():
    few = [name for name in chosen(images=49)[1] if name.startswith("few labels")]
    assert few == ["few labels, 49 images"]
    same = [{**chosen(images=images)[0], "steps": 0, "warmup": 0} for images in (49, 50)]
    assert same[0] == same[1]
    for given, of_facts in (
        ({}, {"images": 50}),
        ({"lora": 8}, {"images": 9}),
        ({"freeze_layers": 6}, {"images": 9}),
        ({"mode": "frozen"}, {"images": 9}),
        ({"recipe": "quick"}, {"images": 9}),
        ({"recipe": "paper"}, {"images": 9}),
        ({}, {"images": 9, "init": "scratch"}),
    ):
        assert not any(name.startswith("few labels") for name in chosen(given, **of_facts)[1])
