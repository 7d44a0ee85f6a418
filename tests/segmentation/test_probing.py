"""Layer-wise probes: the fit is the optimum, the scores are those of `unip evaluate`, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.segmented import segment_frames
from unip.data.labelled.datasets import open_segmentation
from unip.data.sampling.frames import Frames
from unip.errors import UnipError
from unip.features import logistic, store
from unip.features.config import ProbeSettings
from unip.features.patches import layer_maps
from unip.features.store import room_for
from unip.segmentation.metrics import confusion, score
from unip.segmentation.model import Segmenter
from unip.segmentation.probe_data import open_splits
from unip.segmentation.probing import LayerProbes, frozen_segmenter, probe_layers
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import Backbone
from unip.vit.spec import build_backbone

CPU = torch.device("cpu")
VIT = BackboneSpec(arguments={"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2})
MEAN, STD = (0.4, 0.3, 0.2), (0.2, 0.3, 0.4)
NAMES = ("background", "hot", "cold")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def tiny_vit(mean=MEAN, std=STD) -> Backbone:
    torch.manual_seed(0)
    return Backbone(build_backbone(VIT), VIT, mean, std, 32, "tiny")


class Known(nn.Module):
    """Three layers: noise, the mean of each patch among noise, noise again. A patch's noise is its own pixels'."""

    def __init__(self, scale: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"attn": nn.Identity()}) for _ in range(3))
        self.patch_embed = SimpleNamespace(patch_size=(8, 8))
        self.embed_dim, self.scale, self.offset = 5, scale, offset

    def forward_intermediates(self, images, indices, **_):
        level = torch.nn.functional.avg_pool2d(images[:, :1], 8)
        noise = [torch.sin(1e4 * level * k) for k in range(1, 6)]
        maps = [torch.cat(noise, 1), torch.cat([level, *noise[1:]], 1), torch.cat(noise, 1) ** 2]
        return [self.scale * maps[i] + self.offset for i in indices]


def known(**changes) -> Backbone:
    return Backbone(Known(**changes), VIT, (0.0,) * 3, (1.0,) * 3, 32, "known")


def write(root: Path, split: str, number: int, image: np.ndarray, mask: np.ndarray) -> None:
    for folder, pixels in (("images", image), ("masks", mask)):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(root / split / folder / f"{number}.png")


def scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame of three stripes: dark, grey, bright (so that no edge passes through the third class's level)."""
    mask = np.full((height, width), 2, np.uint8)
    mask[:, width // 3 :], mask[:, 2 * width // 3 :] = 0, 1
    mask = mask[:, ::-1] if rng.random() < 0.5 else mask
    return np.array([120, 200, 40])[mask] + rng.integers(-9, 10, mask.shape), mask


@pytest.fixture
def folder(tmp_path) -> Path:
    """Frames of several sizes: 6 to train and 4 to test on."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 4)):
        for number in range(count):
            write(root, split, number, *scene(rng, *[(48, 72), (48, 96), (52, 72)][number % 3]))
    (root / "classes.json").write_text(json.dumps({"names": NAMES, "ignore_index": 255}))
    return root


def settings(folder: Path, **changes) -> ProbeSettings:
    return ProbeSettings.make(**{"data": folder, "short_side": 48, **changes})


def probed(backbone: Backbone, chosen: ProbeSettings, **options) -> LayerProbes:
    return probe_layers(backbone, chosen, open_splits(chosen), **options)


def test_the_layer_that_knows_wins(folder):
    found = probed(known(), settings(folder), device=CPU)
    scores = [layer.miou for layer in found.layers]
    assert found.best_layer == 2 and scores[1] > 0.9 and max(scores[0], scores[2]) < 0.6
    assert [layer.layer for layer in found.layers] == [1, 2, 3]
    assert (found.train_images, found.test_images, found.short_side) == (6, 4, 48)
    assert found.classes == list(NAMES) and found.test == "test" and found.warnings == []
    assert json.loads(json.dumps(asdict(found), allow_nan=False)) == asdict(found)


def test_scores_are_those_of_the_probe_as_a_segmenter(folder, monkeypatch):
    """Each probe as the 1x1 convolution of a linear segmenter, run on whole images by the code of `unip evaluate`."""
    kept = []
    original = logistic.unscaled
    monkeypatch.setattr(logistic, "unscaled", lambda *a: kept.append(original(*a)) or kept[-1])
    segmenters = []
    spy = lambda spec, model: segmenters.append(Segmenter(spec, model)) or segmenters[-1]  # noqa: E731
    monkeypatch.setattr("unip.segmentation.probing.Segmenter", spy)
    found = probed(tiny_vit(), settings(folder, short_side=40), device=CPU)
    data = open_segmentation(folder, "test")
    frames = Frames(data, 40)
    for layer, fitted in enumerate(kept, 1):
        spec = segmenters[0].spec.model_copy(update={"layers": (layer,)})
        segmenter = Segmenter(spec, segmenters[0].backbone).eval()
        conv = next(m for m in segmenter.head.modules() if isinstance(m, nn.Conv2d))
        slopes = fitted.weight / fitted.scale[:, None]
        conv.weight.data[:, :, 0, 0], conv.bias.data[:] = slopes.T, fitted.bias - fitted.mean @ slopes
        matrix = 0
        for frame, logits in segment_frames(segmenter, frames, device=CPU, window="whole", workers=0):
            matrix += confusion(logits.argmax(0), torch.from_numpy(frame.mask), 3).numpy()
        assert found.layers[layer - 1].miou == pytest.approx(score(matrix, NAMES).miou, abs=2e-3)


def test_sizes_batches_and_the_place_of_the_features_change_nothing(folder, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(store.tempfile, "tempdir", str(temporary))
    kinds = []
    monkeypatch.setattr(store, "room_for", lambda *a: kinds.append(room_for(*a)) or kinds[-1])
    first = probed(tiny_vit(), settings(folder, cache="ram"), device=CPU)
    assert probed(tiny_vit(), settings(folder, cache="ram"), device=CPU) == first
    assert probed(tiny_vit(), settings(folder, cache="none"), device=CPU) == first
    assert [isinstance(kind, np.memmap) for kind in kinds] == [False, False, True]
    assert os.listdir(temporary) == []
    single = probed(tiny_vit(), settings(folder, batch_size=1), device=CPU)
    assert [x.miou for x in single.layers] == pytest.approx([x.miou for x in first.layers], abs=0.01)


def test_grey_and_coloured_frames_of_one_size_run_together(folder, tmp_path):
    mixed = Path(shutil.copytree(folder, tmp_path / "mixed"))
    paths = sorted((mixed / "test/images").iterdir())
    for path in paths[::2]:
        with Image.open(path) as image:
            colours = np.asarray(image.convert("RGB")) // np.array([1, 2, 3], np.uint8)
        Image.fromarray(colours).save(path)
    data = open_segmentation(mixed, "test")
    segmenter = frozen_segmenter(tiny_vit(), (1, 3), data, 48)
    found = list(layer_maps(segmenter, data, len(data), "images"))
    sizes = [Image.open(path).size for path in data.images]
    together = sorted(range(len(data)), key=lambda index: sizes.index(sizes[index]))
    assert [frame.index for frame, _ in found] == together
    assert {frame.image.ndim for frame, _ in found[:2]} == {2, 3}
    for frame, maps in found[:2]:  # these are not resized
        image = np.array(Image.open(data.images[frame.index]).convert("RGB")).transpose(2, 0, 1)
        alone = segmenter.features(segmenter.normalise(torch.from_numpy(image.copy())[None]))
        torch.testing.assert_close(maps, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_stopping_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(store.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(logistic, "fit_probe", stop)
    with pytest.raises(KeyboardInterrupt):
        probed(tiny_vit(), settings(folder, cache="none"), device=CPU)
    assert os.listdir(tmp_path / "temporary") == []


def test_what_lies_under_ignored_pixels_has_no_effect(folder):
    """With features of single patches: neither the fit nor the scores change."""
    for split in ("train", "test"):
        path = folder / split / "masks" / "1.png"
        mask = np.array(Image.open(path))
        mask[:16, :16] = 255
        Image.fromarray(mask).save(path)
    before = probed(known(), settings(folder), device=CPU)
    path = folder / "train" / "images" / "1.png"
    image = np.array(Image.open(path))
    image[:16, :16] = 255
    Image.fromarray(image).save(path)
    assert probed(known(), settings(folder), device=CPU) == before


def test_classes_that_are_absent(folder):
    """In neither truth nor prediction: no value. In the truth of the test split alone: nothing is found."""
    names = (*NAMES, "new", "never")
    (folder / "classes.json").write_text(json.dumps({"names": names}))
    path = folder / "test" / "masks" / "0.png"
    mask = np.array(Image.open(path))
    mask[:20] = 3
    Image.fromarray(mask).save(path)
    for layer in probed(known(), settings(folder), device=CPU).layers:
        assert layer.iou[3] == 0.0 and layer.iou[4] is None
        assert layer.miou == pytest.approx(np.mean(layer.iou[:4]))
        assert layer.foreground_miou == pytest.approx(np.mean(layer.iou[1:4]))


def test_large_and_shifted_features_keep_their_digits(folder):
    """Beyond float16 (65504), and a mean a thousand times the deviation: the same scores."""
    plain = probed(known(), settings(folder), device=CPU).layers[1].miou
    for changes in ({"scale": 1e6}, {"offset": 300.0}, {"scale": 1e-6}):
        found = probed(known(**changes), settings(folder), device=CPU).layers[1].miou
        assert found == pytest.approx(plain, abs=0.02)


def test_features_that_are_no_numbers(folder):
    with pytest.raises(UnipError, match="not finite"):
        probed(known(scale=float("nan")), settings(folder), device=CPU)


def test_normalisation_can_be_replaced(folder):
    own = probed(tiny_vit(), settings(folder), device=CPU)
    other = probed(tiny_vit((0.9,) * 3, (0.1,) * 3), settings(folder), device=CPU, mean=MEAN, std=STD)
    assert other == own


def test_splits(folder):
    shutil.copytree(folder / "test", folder / "val")
    assert probed(known(), settings(folder), device=CPU).test == "test"
    assert probed(known(), settings(folder, test="val"), device=CPU).test == "val"
    shutil.rmtree(folder / "test")
    few = probed(known(), settings(folder, train_images=3, test_images=2, short_side=45), device=CPU)
    assert (few.test, few.train_images, few.test_images, few.short_side) == ("val", 3, 2, 48)


def test_too_few_steps_are_told(folder):
    found = probed(known(), settings(folder, max_iterations=2), device=CPU)
    assert "layer 2 was still improving after 2 steps" in " ".join(found.warnings)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"test": "train"}, "split they are trained on"),
        ({"train": "trial"}, "not a segmentation folder"),
        ({"test": "exam"}, "not a segmentation folder"),
    ],
)
def test_wrong_splits(folder, changes, what):
    with pytest.raises(UnipError, match=what) as caught:
        probed(known(), settings(folder, **changes), device=CPU)
    assert caught.value.fix


def test_nothing_to_test_on(folder):
    shutil.move(folder / "test", folder / "exam")
    with pytest.raises(UnipError, match="no split to test on") as caught:
        probed(known(), settings(folder), device=CPU)
    assert caught.value.fix


@pytest.mark.parametrize("split", ["train", "test"])
def test_nothing_labelled(folder, split):
    for path in (folder / split / "masks").iterdir():
        Image.fromarray(np.full_like(np.array(Image.open(path)), 255)).save(path)
    with pytest.raises(UnipError, match=rf"{split},? that were drawn has a labelled pixel") as caught:
        probed(known(), settings(folder), device=CPU)
    assert caught.value.fix


def test_splits_with_other_classes(folder):
    (folder / "test" / "classes.json").write_text(json.dumps({"names": ["background", "cold", "hot"]}))
    with pytest.raises(UnipError, match="classes of train are not those of test"):
        probed(known(), settings(folder), device=CPU)


def test_a_broken_image_is_named(folder):
    path = folder / "train" / "images" / "4.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UnipError, match=r"4\.png"):
        probed(known(), settings(folder), device=CPU)


@pytest.mark.parametrize("changes", [{"train_images": 0}, {"l2": 0}, {"short_side": 3}, {"cache": "ssd"}, {"tset": 1}])
def test_impossible_settings(folder, changes):
    with pytest.raises(UnipError, match=next(iter(changes))):
        settings(folder, **changes)
