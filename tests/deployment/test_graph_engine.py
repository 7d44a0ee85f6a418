"""What a model does around an exported graph; the graph here is the network itself, whole frames at a time."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unip
from unip.data.corruptions import CorruptFrames
from unip.data.images.config import Conversion
from unip.data.images.conversion import grey8
from unip.data.labelled.datasets import open_segmentation
from unip.data.sampling.frames import make_frame, rgb
from unip.deployment.config import LoadConfig
from unip.deployment.engines.graph_engine import GraphEngine
from unip.deployment.export.acceptance import compare_on_data
from unip.deployment.export.file_predictor import BesideModel, FilePredictor
from unip.deployment.export.metadata import ExportMetadata, GoldenFrame
from unip.deployment.export.reference import ReferenceRunner
from unip.deployment.model import Model
from unip.errors import UnipError
from unip.segmentation.model import Segmenter
from unip.segmentation.storage import save_segmenter
from unip.segmentation.training_images import TrainingImages

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (40, 50), np.uint8)
COUNTS = RNG.integers(3000, 9000, (40, 50)).astype(np.uint16)


@dataclass
class Graph:
    """Does in torch what an exported graph does."""

    segmenter: Segmenter
    metadata: ExportMetadata
    golden: list[GoldenFrame] = field(default_factory=list)
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def outputs(self, frame: np.ndarray) -> tuple[Any, Any, Any]:
        self.seen.append((*frame.shape, frame.dtype.name))
        assert (frame.ndim == 3) == (self.metadata.channels == 3)
        image = frame if frame.ndim == 3 else grey8(frame, self.metadata.conversion)
        pixels = rgb(make_frame(0, image, self.metadata.short_side).pixels)[None]
        with torch.no_grad():
            logits = torch.nn.functional.interpolate(self.segmenter(pixels), size=frame.shape[:2], mode="bilinear")[0]
        return logits.argmax(0).byte().numpy(), logits.softmax(0).amax(0).numpy(), logits.numpy()


@pytest.fixture
def make(make_segmenter, tmp_path):
    """A graph, and the folder that it was made of."""

    def made(input="uint8", channels=1, longest=200, **spec) -> tuple[Graph, Model]:
        segmenter = make_segmenter(**spec)
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        save_segmenter(segmenter, folder)
        metadata = ExportMetadata(
            engine="onnx", precision="fp32", input=input, channels=channels, classes=segmenter.spec.classes,
            conversion=segmenter.spec.conversion, images=segmenter.spec.images, short_side=32, crop=32, patch=8,
            longest=longest, model="m",
        )  # fmt: skip
        return Graph(segmenter, metadata), unip.load(folder, device="cpu", window="whole")

    return made


def load(graph: Graph, **settings) -> Model:
    return Model(GraphEngine(graph, LoadConfig(**settings), "m.onnx"))


def alike(one, other) -> None:
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-5)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    np.testing.assert_array_equal(one.image, other.image)


@pytest.mark.parametrize("polarity", ["white-hot", "black-hot"])
@pytest.mark.parametrize("frame", [GREY, COUNTS], ids=["8 bits", "counts"])
def test_a_graph_of_8_bits_takes_every_frame(make, polarity, frame):
    graph, model = make(conversion=Conversion(polarity=polarity))
    alike(load(graph)(frame), model(frame))
    assert graph.seen == [(40, 50, "uint8")]


def test_polarity_may_be_given_where_the_image_is_made_here(make):
    graph, model = make()
    np.testing.assert_array_equal(load(graph, polarity="black-hot")(GREY).image, 255 - GREY)
    alike(load(graph, polarity="black-hot")(GREY), model(255 - GREY))
    other, _ = make(input="int32")
    with pytest.raises(UnipError, match="converts frames itself"):
        load(other, polarity="black-hot")


@pytest.mark.parametrize(("input", "frame"), [("int32", COUNTS), ("float32", COUNTS.astype(np.float32) / 30)])
def test_a_graph_of_counts_or_temperatures_converts_itself(make, input, frame):
    graph, model = make(input=input)
    unit = None if input == "int32" else "kelvin"
    alike(load(graph)(frame, unit=unit), model(frame, unit=unit))
    with pytest.raises(UnipError, match=f"frame 0: the samples are uint8, but this file was exported for {input}"):
        load(graph)(GREY)


def test_counts_without_a_measurement_go_to_the_graph_as_they_are(make):
    graph, _ = make(input="int32", conversion=Conversion(nodata=0))
    frame = COUNTS.copy()
    frame[:, :10] = 0
    seen = []
    graph.outputs = lambda given: (
        seen.append(given) or (GREY, GREY.astype(np.float32), np.zeros((3, 40, 50), np.float32))
    )
    load(graph)(frame)
    assert seen[0].dtype == np.int32
    np.testing.assert_array_equal(seen[0], frame)


def test_colours(make):
    colours = RNG.integers(0, 255, (40, 50, 3), np.uint8)
    graph, model = make(channels=3)
    alike(load(graph)(colours), model(colours))
    alike(load(graph)(GREY), model(GREY))
    graph, _ = make(channels=1)
    with pytest.raises(UnipError, match="frame 0: the frame is in colour"):
        load(graph)(colours)


@pytest.mark.parametrize("turned", [False, True])
def test_long_frames_are_cut_into_windows_of_the_same_scale(make, turned):
    graph, _ = make(longest=64)
    frame = RNG.integers(0, 255, (32, 300), np.uint8)
    frame = np.ascontiguousarray(frame.T if turned else frame)
    result = load(graph)(frame)
    assert result.mask.shape == frame.shape and result.scale == 1
    assert {shape[:2] for shape in graph.seen} == {(64, 32) if turned else (32, 64)}
    total, count = np.zeros((3, *frame.shape)), np.zeros(300)
    starts = [0, 43, 86, 129, 172, 215, 236]  # a third of each lies over the next
    assert result.windows == len(starts)
    for start in starts:
        part = frame[start : start + 64] if turned else frame[:, start : start + 64]
        place = (
            (slice(None), slice(start, start + 64)) if turned else (slice(None), slice(None), slice(start, start + 64))
        )
        total[place] += graph.outputs(np.ascontiguousarray(part))[2]
        count[start : start + 64] += 1
    logits = total / (count[:, None] if turned else count)
    np.testing.assert_array_equal(result.mask, logits.argmax(0))
    np.testing.assert_allclose(result.probabilities, np.exp(logits) / np.exp(logits).sum(0), atol=1e-5)


def test_large_frames_are_seen_whole_where_that_is_asked_for_as_by_model_folders(make):
    graph, model = make(images=TrainingImages(depth="8 bits", colours="grey", size=(32, 40)))
    large = RNG.integers(0, 255, (80, 100), np.uint8)
    with pytest.warns(UserWarning, match="objects look smaller"):
        whole = load(graph, window="whole")(large)
    assert (whole.windows, whole.scale) == (1, 32 / 80)
    alike(whole, model(large))
    with pytest.warns(UserWarning, match="cut into"):
        assert load(graph)(large).windows > 1


def test_long_frames_whose_contrast_is_the_whole_frames_are_refused(make):
    long = np.zeros((40, 300), np.uint16)
    graph, _ = make(input="int32", longest=64)
    with pytest.raises(UnipError, match="300x40 pixels are too long") as caught:
        load(graph)(long)
    assert "--input uint8" in caught.value.fix
    graph, _ = make(input="int32", longest=64, conversion=Conversion(method="window", window=(0, 9000)))
    assert load(graph)(long).mask.shape == (40, 300)


def test_another_device_that_gives_other_masks_is_told_of(make):
    """One frame is looked at, the squarest; or all, or none."""
    graph, _ = make()

    def golden(frame, rows):
        ids, sure, _ = graph.outputs(frame)
        ids[:rows] = (ids[:rows] + 1) % 3
        return GoldenFrame(frame, ids, (sure * 255).astype(np.uint8))

    def quiet(check):
        graph.seen.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(graph, check=check)
        return [shape[:2] for shape in graph.seen]

    long = RNG.integers(0, 255, (40, 100), np.uint8)
    graph.golden = [golden(long, 0), golden(GREY, 0)]
    assert (quiet("one"), quiet("all"), quiet("none")) == ([(40, 50)], [(40, 50), (40, 100)], [])
    graph.golden = [golden(long, 4), golden(GREY, 0)]
    assert (quiet("one"), quiet("none")) == ([(40, 50)], [])
    with pytest.warns(UserWarning, match=r"other masks on this device .*of 1 of 2 golden frames, as few as 90\.00 %"):
        load(graph, check="all")
    graph.golden = [golden(long, 0), golden(GREY, 4)]
    with pytest.warns(UserWarning, match=r"of 1 of 1 golden frames, as few as 90\.00 %"):
        load(graph)


def test_settings_that_were_decided_by_the_export(make):
    graph, _ = make()
    for settings, what in (
        ({"precision": "fp16"}, "computes in fp32"),
        ({"compile": True}, "of model folders"),
        ({"batch_size": 4}, "of model folders"),
        ({"window": "slide"}, "of model folders"),
        ({"augment": "flip"}, "is for model folders"),
        ({"augment_scales": (0.75, 1.0)}, "is for model folders"),
        ({"engine": "openvino"}, "is run by ONNX Runtime, and engine openvino was requested"),
        ({"engine": "torch"}, "is run by ONNX Runtime, and engine torch was requested"),
    ):
        with pytest.raises(UnipError, match=what):
            load(graph, **settings)
    model = load(graph, precision="fp32", batch_size=1)
    assert "with ONNX Runtime on cpu in fp32" in repr(model)
    with pytest.raises(UnipError, match="not a model folder"):
        model.push_to_hub("owner/thing")


def test_what_differs_from_training_is_said_here_too(make):
    graph, _ = make(images=TrainingImages(depth="more than 8 bits", colours="grey", size=(40, 50)))
    with pytest.warns(UserWarning, match="has 8 bits"):
        assert load(graph)(GREY).notes


def test_a_graph_of_counts_is_evaluated_beside_its_model(make, segmentation_folder, capsys):
    """As it takes them; corruptions are of pictures, so none is tried."""
    test = segmentation_folder / "test"
    for path in test.glob("images/*.png"):
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 20).save(path)
    graph, model = make("int32")
    engine = GraphEngine(graph, LoadConfig(), "m.onnx")
    both = BesideModel(FilePredictor(engine, test / "images/0.png"), ReferenceRunner(graph.segmenter, graph.metadata))
    data = replace(open_segmentation(segmentation_folder, "test"), conversion=graph.metadata.conversion)
    found = compare_on_data(both, None, data)
    assert found.corrupted == {} and found.clean.agreement == 1.0 and found.clean.lost == 0
    assert {shape[2] for shape in graph.seen} == {"uint16"}  # what runs a real file gives it the type of the graph
    assert "corruptions are of 8-bit frames" in capsys.readouterr().out
    for each, path in zip(both.file.segment(data), data.images, strict=True):
        ((_, _, ids),) = each.parts
        np.testing.assert_array_equal(ids.numpy(), model(path).mask)
        assert not each.frame.is_8_bit
    with pytest.raises(UnipError, match="corruptions are of 8-bit frames, but this file takes int32"):
        next(both.segment(data, CorruptFrames("fog")))


def test_long_frames_are_compared_in_the_same_tiles(make, segmentation_folder):
    graph, _ = make(longest=36)
    engine = GraphEngine(graph, LoadConfig(), "m.onnx")
    data = open_segmentation(segmentation_folder, "test")
    reference = ReferenceRunner(graph.segmenter, graph.metadata)
    both = BesideModel(FilePredictor(engine, data.images[0]), reference)
    found = [[(rows, logits.clone(), ids) for rows, logits, ids in each.parts] for each in both.segment(data)]
    assert len(graph.seen) == 2 * len(found) and both.counted[None].finish().agreement >= 0.999
    for parts, path in zip(found, data.images, strict=True):
        result = Model(engine)(path)
        assert sum(len(ids) for _, _, ids in parts) == len(result.mask)
        for rows, logits, ids in parts:
            np.testing.assert_array_equal(ids.numpy(), result.mask[rows])
            np.testing.assert_allclose(logits.softmax(0).numpy(), result.probabilities[:, rows], atol=1e-6)
