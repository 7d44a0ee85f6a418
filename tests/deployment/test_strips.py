"""Large frames are segmented in strips: the same masks as untiled, at training's scale, with bounded memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import unip
from tests.deployment.test_graph_engine import Graph, load
from unip.data.corruptions import CorruptFrames
from unip.data.images import blocks
from unip.data.images.config import Conversion
from unip.data.images.conversion import grey8
from unip.data.labelled.classes import Classes
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.overlay import reduce_mask, reduction
from unip.data.sampling.frames import Frame, resize_image, rgb
from unip.deployment import result as result_module
from unip.deployment.config import LoadConfig
from unip.deployment.engine import Wanted
from unip.deployment.engines.graph_engine import GraphEngine
from unip.deployment.engines.graph_strips import confidence_of, softmax
from unip.deployment.export.file_predictor import BesideModel, FilePredictor
from unip.deployment.export.metadata import ExportMetadata
from unip.deployment.export.parity import ParityCounter
from unip.deployment.export.reference import ReferenceRunner
from unip.deployment.strips import segment_in_strips
from unip.errors import UnipError
from unip.segmentation import gallery, strips
from unip.segmentation.calibrating import PixelSample
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.evaluation import score_parts
from unip.segmentation.heads import resize
from unip.segmentation.inference import class_ids
from unip.segmentation.predictor import Rows, SegmentedFrame, SegmenterPredictor
from unip.segmentation.reliability import ReliabilityCounter
from unip.segmentation.sliding import sliding_logits
from unip.segmentation.storage import load_segmenter, save_segmenter
from unip.segmentation.strips import Grid, resize_rows
from unip.segmentation.training_images import TrainingImages

RNG = np.random.default_rng(0)
IMAGES = TrainingImages(depth="both", colours="grey", size=(128, 128))
ALL = Wanted(confidence=True, probabilities=True)


class Convolution:
    """A backend on numpy whose model is one convolution."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 4, 9, padding=4)

    def model(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.layer(images.float() / 64)

    def zeros(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape, np.float32)

    def put(self, values: np.ndarray) -> np.ndarray:
        return values

    def run(self, windows: list[np.ndarray]) -> Iterator[np.ndarray]:
        for window in windows:
            yield self.model(rgb(resize_image(window, window.shape[:2]))[None])[0].numpy()

    def finish(self, logits: np.ndarray, wanted: Wanted) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return logits.argmax(0).astype(np.uint8), confidence_of(logits, 1), softmax(logits, 1)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((200, 150), (200, 150)),
        ((201, 151, 3), (133, 100)),
        ((97, 60), (200, 124)),
        ((20, 300), (20, 300)),
        ((300, 40), (25, 40)),
        ((200, 60), (32, 10)),
        ((5, 7), (40, 56)),
    ],
)
def test_strips_are_sliding_windows_over_the_whole(monkeypatch, shape, size):
    monkeypatch.setattr(strips, "BLOCK_LOGITS", 3000)  # so that there are many blocks
    frame, backend = RNG.integers(0, 255, shape, dtype=np.uint8), Convolution()
    pixels = rgb(resize_image(frame, size))
    logits = resize(sliding_logits(backend.model, [pixels], crop=32, stride=21)[0][None], shape[:2])[0]
    rows = [resize_rows(frame, size, top, min(top + 13, size[0])) for top in range(0, size[0], 13)]
    whole = np.asarray(pixels)[0] if len(shape) == 2 else np.asarray(pixels).transpose(1, 2, 0)
    # torch and Pillow round in two ways
    np.testing.assert_allclose(np.concatenate(rows).astype(int), whole.astype(int), atol=1)
    ids, confidence, probabilities = segment_in_strips(
        frame, Grid(shape[:2], size, (32, 32), (21, 21), 4), backend, ALL
    )
    assert (ids == logits.argmax(0).numpy()).mean() > 0.99
    np.testing.assert_allclose(probabilities, logits.softmax(0).numpy(), atol=1e-2)
    np.testing.assert_allclose(confidence, probabilities.max(0), atol=1e-5)


def test_memory_is_that_of_a_strip():
    """Every row more costs its ids alone: logits, resized pixels and floats are of one strip."""

    class Nothing(Convolution):
        def run(self, windows: list[np.ndarray]) -> Iterator[np.ndarray]:
            return (np.zeros((4, *window.shape), np.float32) for window in windows)

    def peak(height: int, wanted: Wanted) -> int:
        frame = np.zeros((height, 64), np.uint8)
        tracemalloc.start()
        segment_in_strips(frame, Grid((height, 64), (height // 2, 32), (32, 32), (21, 21), 4), Nothing(), wanted)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    first, second = 4000, 12000
    pixels = (second - first) * 64
    for wanted, each in ((Wanted(confidence=False), 1), (Wanted(), 5), (ALL, 21)):
        extra = (peak(second, wanted) - peak(first, wanted)) / pixels
        assert each <= extra < each + 1.5, wanted  # where rows come from takes 12 bytes a row


@pytest.fixture
def folder(make_segmenter, tmp_path):
    """A model whose logits depend on a few patches only: nothing is seen of what lies around them."""
    segmenter = make_segmenter(decoder="linear", images=IMAGES, short_side=64, crop=32, stride=21)
    with torch.no_grad():
        segmenter.backbone.pos_embed.zero_()
        for block in segmenter.backbone.blocks:
            block.attn.proj.weight.zero_()
            block.attn.proj.bias.zero_()
        segmenter.backbone.patch_embed.proj.weight.normal_(0, 0.3)
        for module in segmenter.head.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.normal_(0, 1)
    save_segmenter(segmenter, tmp_path / "ft" / "model")
    return tmp_path / "ft"


@pytest.fixture
def graph(folder):
    """The same as a graph."""
    made = load_segmenter(folder)
    metadata = ExportMetadata(
        engine="onnx", precision="fp32", input="uint8", channels=1, classes=made.spec.classes,
        conversion=made.spec.conversion, images=IMAGES, short_side=64, crop=32, patch=8, largest=(256, 256),
        longest=128, model="m",
    )  # fmt: skip
    return Graph(made, metadata)


SIDE = 128  # of a frame of training, which is resized to 64
EDGE = 27  # pixels around a change of level: beyond them, patches of 16 pixels see one level, and so do logits


def mosaic() -> tuple[np.ndarray, list[tuple[slice, slice]]]:
    """Frames of a few even areas, side by side, and where each lies."""
    levels = np.random.default_rng(1).permutation(np.linspace(5, 250, 24).astype(np.uint8)).reshape(3, 4, 2)
    frame, places = np.zeros((3 * SIDE, 4 * SIDE), np.uint8), []
    for row in range(3):
        for column in range(4):
            place = slice(row * SIDE, (row + 1) * SIDE), slice(column * SIDE, (column + 1) * SIDE)
            frame[place] = np.repeat(levels[row, column], SIDE // 2)[None]
            places.append(place)
    return frame, places


@pytest.fixture(params=["torch", "graph"])
def model(request, folder):
    return unip.load(folder, device="cpu") if request.param == "torch" else load(request.getfixturevalue("graph"))


def inner(mask: np.ndarray) -> np.ndarray:
    """The pixels of a frame of training away from its borders and from the change of level."""
    half = SIDE // 2
    rows = slice(EDGE, SIDE - EDGE)
    return np.concatenate([mask[rows, EDGE : half - EDGE], mask[rows, half + EDGE : SIDE - EDGE]], axis=1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("in_strips", [False, True])
def test_a_mosaic_has_the_masks_of_its_frames(monkeypatch, model, in_strips):
    if in_strips:
        monkeypatch.setattr(strips, "MAX_WHOLE_LOGITS", 0)
    frame, places = mosaic()
    result = model(frame)
    assert result.scale == 0.5 and result.windows > 12
    alone = [model(np.ascontiguousarray(frame[place])) for place in places]
    assert len(np.unique([inner(each.mask) for each in alone])) > 1
    for place, each in zip(places, alone, strict=True):
        np.testing.assert_array_equal(inner(result.mask[place]), inner(each.mask))
    shrunk = unip.load(model.facts.folder, device="cpu", scale="fit")(frame) if model.facts.folder else None
    assert shrunk is None or shrunk.scale == 64 / 384


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["percentile", "plateau", "minmax"])
def test_counts_are_converted_as_a_whole_frame(monkeypatch, model, method):
    """Never by the percentiles of a window."""
    monkeypatch.setattr(blocks, "LARGE_PIXELS", 1000)
    counts = (mosaic()[0].astype(np.uint16) * 37 + 3000) + RNG.integers(0, 9, (3 * SIDE, 4 * SIDE)).astype(np.uint16)
    model.engine.facts = model.facts.__class__(**{**vars(model.facts), "conversion": Conversion(method=method)})
    result, wanted = model(counts), model(grey8(counts, Conversion(method=method)))
    np.testing.assert_array_equal(result.image, wanted.image)
    np.testing.assert_array_equal(result.mask, wanted.mask)
    assert result.windows > 12


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("window", ["slide", "whole"])
@pytest.mark.parametrize("scale", ["auto", "fit", "native", 0.7])
def test_strips_change_nothing(monkeypatch, make_segmenter, tmp_path, window, scale):
    save_segmenter(make_segmenter(images=IMAGES.model_copy(update={"size": (64, 64)})), tmp_path / "model")
    model = unip.load(tmp_path / "model", device="cpu", window=window, scale=scale)
    frames = [RNG.integers(0, 255, size, np.uint8) for size in ((70, 90), (200, 150), (64, 40))]
    whole = model(frames, probabilities=True)
    monkeypatch.setattr(strips, "MAX_WHOLE_LOGITS", 0)
    for one, other in zip(whole, model(frames, probabilities=True), strict=True):
        assert (one.mask == other.mask).mean() > 0.995
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=2e-2)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=2e-2)
        assert (one.scale, one.windows) == (other.scale, other.windows)
    single = model(frames[0])
    with pytest.raises(UnipError, match="were not kept"):
        _ = single.probabilities  # of a large frame only if they are asked for
    assert single.confidence.shape == (70, 90)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["int32", "float32"])
def test_graphs_that_convert_whole_frames_do_not_cut_them(graph, kind):
    """What a graph does by the frame's percentiles, it would do by those of each window."""
    counts = mosaic()[0].astype(np.uint16) * 37
    frame = counts if kind == "int32" else counts.astype(np.float32)
    unit = None if kind == "int32" else "counts"

    def given(conversion: Conversion, **settings):
        metadata = graph.metadata.model_copy(update={"input": kind, "conversion": conversion})
        return load(Graph(graph.segmenter, metadata), **settings)

    for method in ("percentile", "minmax", "plateau"):
        with pytest.raises(UnipError, match=r"512x384 pixels are too many .* contrast of its own") as caught:
            given(Conversion(method=method))(frame, unit=unit)
        assert "--input uint8" in caught.value.fix and "scale fit" in caught.value.fix
        assert given(Conversion(method=method), scale="fit")(frame, unit=unit).windows == 1
    window = Conversion(method="window", window=(0, 9000))
    result = given(window)(frame, unit=unit)
    assert (result.scale, result.windows) == (0.5, 4 * 6)
    logits, count = np.zeros((3, 384, 512)), np.zeros((384, 512))
    alone = Graph(graph.segmenter, graph.metadata.model_copy(update={"input": kind, "conversion": window}))
    for top in (0, 86, 172, 256):
        for left in (0, 86, 172, 258, 344, 384):
            place = slice(top, top + 128), slice(left, left + 128)
            logits[:, *place] += alone.outputs(np.ascontiguousarray(frame[place]))[2]
            count[place] += 1
    np.testing.assert_array_equal(result.mask, (logits / count).argmax(0))


@pytest.mark.filterwarnings("ignore")
def test_small_windows_of_a_graph_keep_their_scale(graph):
    """A graph would enlarge a frame that is smaller than its short side."""
    frame, _ = mosaic()
    result = load(graph, scale=0.25)(frame[:SIDE, :SIDE].copy())
    assert graph.seen[-1][:2] == (64, 64) and result.windows == 1 and result.scale == 0.25


def test_colour_that_a_graph_would_invert_in_parts(graph):
    metadata = graph.metadata.model_copy(update={"channels": 3, "conversion": Conversion(polarity="black-hot")})
    frame = RNG.integers(0, 255, (300, 300, 3), np.uint8)
    with pytest.raises(UnipError, match="in colour have to be cut into windows"):
        load(Graph(graph.segmenter, metadata))(frame)


def test_native_needs_to_know_training(make_segmenter, tmp_path, graph):
    save_segmenter(make_segmenter(), tmp_path / "old")
    with pytest.raises(UnipError, match="does not say how large its frames of training were"):
        unip.load(tmp_path / "old", scale="native")
    unknown = Graph(graph.segmenter, graph.metadata.model_copy(update={"images": None}))
    with pytest.raises(UnipError, match="does not say how large its frames of training were"):
        load(unknown, scale="native")
    for model, side in ((unip.load(tmp_path / "old", device="cpu"), 32), (load(unknown), 64)):
        with pytest.warns(UserWarning, match=f"shrunk to a short side of {side}. The model does not say how large"):
            assert model(np.zeros((130, 128), np.uint8)).scale == side / 128


def test_predict_says_and_records_it(monkeypatch, folder, tmp_path, caplog):
    monkeypatch.setattr(strips, "MAX_WHOLE_LOGITS", 3 * 200 * 200)
    monkeypatch.setattr(blocks, "LARGE_PIXELS", 200 * 200)
    monkeypatch.setattr(blocks, "LARGE_BYTES", 1000)
    frame, _ = mosaic()
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        tifffile.imwrite(tmp_path / f"in/{name}.tif", frame.astype(np.uint16) * 40, rowsperstrip=16, compression="zlib")
    Image.fromarray(frame[:SIDE, :SIDE]).save(tmp_path / "in/d.png")
    (tmp_path / "in/broken.tif").write_bytes((tmp_path / "in/a.tif").read_bytes()[:-40])
    settings = {"model": folder, "images": (tmp_path / "in",), "device": "cpu", "workers": 0}
    with pytest.raises(UnipError, match=r"1 of 5 images could not be read:\n.*broken\.tif"):
        unip.predict(**settings, out=tmp_path / "out")
    said = [record.message for record in caplog.records if "cut into" in record.message]
    assert len([text for text in said if text.startswith("note:")]) == 1
    assert (
        "a.tif is 512x384" in said[-1]
        and "resized by 0.5 as those were, to 256x192, and cut into 108 windows" in said[-1]
    )
    record = json.loads((tmp_path / "out/predictions.json").read_text())
    assert record["scale"] == "auto"
    images = {each["image"].rpartition("/")[2]: each for each in record["images"]}
    assert {name: (each["scale"], each["windows"]) for name, each in images.items()} == {
        **{f"{name}.tif": (0.5, 108) for name in "abc"},
        "d.png": (0.5, 9),
    }
    mask = np.asarray(Image.open(tmp_path / "out/masks/a.png"))
    with pytest.warns(UserWarning, match="cut into 108 windows"):
        np.testing.assert_array_equal(mask, unip.load(folder, device="cpu")(tmp_path / "in/a.tif").mask)
    unip.predict(**{**settings, "images": (tmp_path / "in/a.tif",)}, out=tmp_path / "fit", scale="fit")
    fitted = json.loads((tmp_path / "fit/predictions.json").read_text())
    assert fitted["scale"] == "fit" and fitted["images"][0]["scale"] == pytest.approx(64 / 384, abs=1e-6)


def test_frames_beyond_the_limit_of_pixels(monkeypatch, folder, tmp_path, caplog):
    """TIFF is read in parts, its orientation too; other formats are decoded whole, and refused."""
    monkeypatch.setattr(blocks, "LARGE_PIXELS", 200 * 200)
    monkeypatch.setattr(blocks, "LARGE_BYTES", 1000)
    frame = mosaic()[0] + RNG.integers(0, 5, (384, 512), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", frame, rowsperstrip=16)
    Image.fromarray(frame).save(tmp_path / "a.png")
    settings = {"model": folder, "device": "cpu", "max_pixels": 384 * 500}
    result = unip.predict(**settings, images=(tmp_path / "a.tif",), out=tmp_path / "out")
    assert np.asarray(Image.open(result.masks[tmp_path / "a.tif"])).shape == (384, 512)
    with pytest.raises(UnipError, match=r"a\.png.*claims 512x384"):
        unip.predict(**settings, images=(tmp_path / "a.png",), out=tmp_path / "out2")


def test_evaluation_at_a_scale(folder, segmentation_folder, tmp_path, caplog):
    """Frames of 40 x 32 pixels, of a model that was trained on 128 x 128."""
    found = {}
    for scale in ("auto", "native"):
        given = {"model": folder, "data": segmentation_folder, "device": "cpu", "scale": scale}
        found[scale] = unip.evaluate(**given, out=tmp_path / scale)
        settings = json.loads((tmp_path / scale / "metrics.json").read_text())
        assert settings["scale"] == scale
    assert (found["auto"].scores.matrix != found["native"].scores.matrix).any()
    assert "resized by 0.5 as those of training were" in caplog.text


def test_overlays_of_large_frames_are_reduced(monkeypatch, folder):
    model = unip.load(folder, device="cpu", scale="fit")
    frame = np.full((90, 120), 9, np.uint8)
    result = model(frame)
    assert result.plot(legend=False).size == (120, 90)
    assert result.plot(legend=False, max_pixels=90 * 120 // 4).size == (60, 45)
    assert result.plot(legend=False, max_pixels=1000).size == (30, 23)
    monkeypatch.setattr(result_module, "ROWS_AT_ONCE", 7)
    other = model(frame)
    assert other.counts.sum() == 90 * 120 and other.counts.tolist() == result.counts.tolist()


def test_small_regions_stay_visible():
    classes = Classes(("background", "hot", "cold"))
    assert [reduction((90, 120), most) for most in (10800, 10799, 2700, 1)] == [1, 2, 2, 120]
    mask = np.zeros((9, 10), np.uint8)
    mask[4, 7] = 2
    mask[8, 9] = 1
    mask[0, :3] = 255
    reduced = reduce_mask(mask, classes, 3)
    assert reduced.shape == (3, 4)
    assert reduced.tolist() == [[0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]


@pytest.fixture
def labelled(tmp_path):
    """Three labelled frames of several sizes, one of them in counts."""
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data/classes.json").write_text(json.dumps({"names": ["background", "hot", "cold"]}))
    frame, _ = mosaic()
    for number, part in enumerate([frame, frame[:300, :200].astype(np.uint16) * 40, frame[100:230, 30:430]]):
        Image.fromarray(part).save(tmp_path / f"data/images/{number}.png")
        mask = (part // (part.max() // 3 + 1)).astype(np.uint8)
        mask[:5] = 255
        Image.fromarray(mask).save(tmp_path / f"data/masks/{number}.png")
    return tmp_path / "data"


def predictor(kind: str, folder, graph, **settings):
    """What evaluates a model folder, or an exported file."""
    if kind == "torch":
        return SegmenterPredictor(EvaluateConfig(model=folder, data=folder, device="cpu", workers=0, **settings))
    engine = GraphEngine(graph, LoadConfig(check="none"), "m.onnx")
    return FilePredictor(engine, folder / "model/config.json")


def scored(predictor, data, corruption=None):
    """Return the scores of labelled frames, what is said of confidence, how many parts there were, and the ids."""
    opened = replace(open_segmentation(data, None), conversion=predictor.facts.settings.conversion)
    names, parts, masks = opened.classes.names, [], []
    look = ReliabilityCounter(names, None)
    total = np.zeros((3, 3), np.int64)
    for found in predictor.segment(opened, corruption):
        parts.append([])

        def taken(found=found):
            for each in found.parts:
                parts[-1].append(tuple(each.logits.shape))
                yield each

        matrix, ids = score_parts(SegmentedFrame(found.frame, taken()), 3, [look])
        total += matrix
        masks.append(ids)
    return total, look.finish(), parts, masks


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("corruption", [None, CorruptFrames("stripes", 3)])
@pytest.mark.parametrize("kind", ["torch", "graph"])
def test_an_evaluation_in_strips_has_the_numbers_of_one_of_whole_frames(
    monkeypatch, folder, graph, labelled, kind, corruption
):
    one = scored(predictor(kind, folder, graph), labelled, corruption)
    monkeypatch.setattr(strips, "MAX_WHOLE_LOGITS", 0)
    monkeypatch.setattr(strips, "BLOCK_LOGITS", 30_000)
    for name, value in (("LARGE_PIXELS", 1000), ("LARGE_BYTES", 10)):
        monkeypatch.setattr(blocks, name, value)
    other = scored(predictor(kind, folder, graph), labelled, corruption)
    assert [len(each) for each in one[2]] == ([1, 1, 1] if kind == "torch" else [len(each) for each in one[2]])
    assert all(len(parts) > 5 for parts in other[2])
    for parts, (height, width) in zip(other[2], [(384, 512), (300, 200), (130, 400)], strict=True):
        assert sum(rows for _, rows, _ in parts) == height and {wide for _, _, wide in parts} == {width}
        assert max(rows for _, rows, _ in parts) * 3 * width <= 30_000  # what is held, whatever the frame's height
    assert one[0].sum() == other[0].sum() == 379 * 512 + 295 * 200 + 125 * 400
    assert np.abs(one[0] - other[0]).sum() <= 0.005 * one[0].sum()
    for mask, again in zip(one[3], other[3], strict=True):
        assert mask.shape == again.shape and (mask == again).mean() > 0.995
    assert other[1].ece == pytest.approx(one[1].ece, abs=2e-3)
    assert (other[1].right + other[1].wrong).sum() == one[0].sum()


def test_what_is_counted_in_parts_is_what_is_counted_at_once():
    """Exactly, whatever the parts: confusion, confidence by class, the calibration error, and parity of two models."""
    rng = np.random.default_rng(3)
    logits, others = (rng.normal(0, 2, (3, 60, 40)).astype(np.float32) for _ in range(2))
    others[:, 31:] = logits[:, 31:]
    truth = rng.integers(0, 3, (60, 40)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    frame = Frame(0, truth, torch.zeros(1, 0, 0), truth)
    names = ("a", "b", "c")

    def counted(cuts):
        sure, sample = ReliabilityCounter(names, None), PixelSample(names, 1)
        sample.per_class = 10**6  # all
        parity = ParityCounter(SimpleNamespace(classes=Classes(names), calibration=None))
        parts = [slice(*each) for each in pairwise(cuts)]
        rows = [
            Rows(each, torch.from_numpy(logits[:, each]), class_ids(torch.from_numpy(logits[:, each])))
            for each in parts
        ]
        matrix, ids = score_parts(SegmentedFrame(frame, iter(rows)), 3, [sure, sample])
        for each in parts:
            both = (
                SimpleNamespace(logits=all_[:, each], ids=all_[:, each].argmax(0).astype(np.uint8))
                for all_ in (logits, others)
            )
            parity.add_rows(*both, truth[each])
        parity.end_frame()
        return matrix, ids, sure.finish(), sample.measure("d"), parity.finish()

    whole = counted([0, 60])
    known = truth != 255
    expected = np.zeros((3, 3), np.int64)
    np.add.at(expected, (truth[known], logits.argmax(0)[known]), 1)
    np.testing.assert_array_equal(whole[0], expected)
    assert whole[4].logit_difference == pytest.approx(np.abs(logits - others).max() / (others.max() - others.min()))
    for cuts in ([0, 1, 60], [0, 20, 40, 60], list(range(61))):
        parts = counted(cuts)
        np.testing.assert_array_equal(parts[0], whole[0])
        np.testing.assert_array_equal(parts[1], whole[1])
        for one, other in zip(parts[2:4], whole[2:4], strict=True):
            np.testing.assert_array_equal(one.right, other.right)
            np.testing.assert_array_equal(one.wrong, other.wrong)
            assert one.ece == pytest.approx(other.ece, abs=1e-6)
        assert parts[3].calibration.images == 1 and parts[3].calibration.shown == (1, 1, 1)
        assert (parts[4].agreement, parts[4].logit_difference) == (whole[4].agreement, whole[4].logit_difference)
        assert (parts[4].frames, parts[4].lost) == (1, whole[4].lost)


def sampled(frames, per_class, rows, seed=0):
    """Pixels for calibration of frames ``(C, H, W)`` that come in parts of so many rows."""
    sample = PixelSample("abc"[: len(frames[0])], len(frames), seed)
    sample.per_class = per_class
    for logits in frames:
        for top in range(0, logits.shape[1], rows):
            part = torch.from_numpy(logits[:, top : top + rows])
            truth = torch.zeros(part.shape[1:], dtype=torch.uint8)
            truth[:, :3] = 255
            sample.add(part, class_ids(part), truth, top == 0)
    return sample, sample.measure("d")


def test_pixels_for_calibration_are_of_all_parts_and_not_more_than_of_a_whole_frame():
    logits = np.random.default_rng(0).normal(size=(2, 1000, 100)).astype(np.float32)
    sample, measured = sampled([logits], 500, 20)
    assert [len(ids) for _, ids, _, _ in sample.kept] == [500, 500]
    assert sample.images == 1 and sample.shown.tolist() == [1, 1]
    assert abs((measured.right + measured.wrong).sum() - 1000 * 97) < 10  # each stands for those beside it


def test_the_same_pixels_are_taken_of_parts_as_of_whole_frames():
    """Also of an object in one part of many: a rare class is kept whole."""
    frames = np.random.default_rng(0).normal(size=(3, 3, 770, 60)).astype(np.float32)
    frames[:, 2] -= 100
    frames[1, 2, 333:338, 9:54] += 200  # 5 rows of 45 pixels, in one of 77 parts
    kept = {}
    for rows in (770, 300, 10, 1):
        sample, _ = sampled(frames, 300, rows)
        assert sample.shown.tolist() == [3, 3, 1]
        kept[rows] = sorted(
            (int(id_), float(weight), *map(float, one))
            for logits, ids, _, weights in sample.kept
            for one, id_, weight in zip(logits, ids, weights, strict=True)
        )
        assert kept[rows] == kept[770]
    assert [weight for id_, weight, *_ in kept[770] if id_ == 2] == [1.0] * 225
    assert sum(id_ == 0 for id_, *_ in kept[770]) == 3 * 300


@pytest.mark.filterwarnings("ignore")
def test_predict_and_evaluate_leave_augmentation_of_large_frames_out_and_say_so(
    monkeypatch, folder, labelled, tmp_path, caplog
):
    monkeypatch.setattr(strips, "MAX_WHOLE_LOGITS", 3 * 150 * 500)  # the first alone
    settings = {"model": folder, "device": "cpu", "workers": 0}
    found = unip.evaluate(
        **settings, data=labelled, split=None, augment="flip", augment_scales=(0.75, 1.0), out=tmp_path / "e", worst=3
    )
    said = [each.message for each in caplog.records if "without test-time augmentation" in each.message]
    assert said == [
        f"note: {labelled / 'images/0.png'} is large: such frames are segmented without test-time augmentation"
    ]
    caplog.clear()
    unip.predict(
        **settings, images=(labelled / "images",), augment="flip", augment_scales=(0.75, 1.0), out=tmp_path / "p"
    )
    assert [each.message for each in caplog.records if "without test-time augmentation" in each.message] == said
    for number in range(3):
        mask, truth = (
            np.asarray(Image.open(place))
            for place in (tmp_path / f"p/masks/{number}.png", labelled / f"masks/{number}.png")
        )
        matrix = np.zeros((3, 3), np.int64)
        np.add.at(matrix, (truth[truth != 255], mask[truth != 255]), 1)
        np.testing.assert_array_equal(found.matrices[str(labelled / f"images/{number}.png")], matrix)
    assert (tmp_path / "e/evaluation.html").read_text().count("data:image/jpeg;base64,") == 9


@pytest.mark.filterwarnings("ignore")
def test_pages_show_large_frames_reduced(monkeypatch, folder, labelled, tmp_path):
    monkeypatch.setattr(strips, "MAX_WHOLE_LOGITS", 0)
    monkeypatch.setattr(gallery, "OVERLAY_PIXELS", 10_000)
    shown = []
    monkeypatch.setattr(
        "unip.segmentation.evaluation_files.render_evaluation", lambda *given, **_: shown.append(given) or ""
    )
    unip.evaluate(model=folder, data=labelled, split=None, device="cpu", workers=0, out=tmp_path / "e", worst=3)
    frames = {each.path.name: each for each in shown[-1][3]}
    assert {name: each.image.shape for name, each in frames.items()} == {
        "0.png": (77, 103),
        "1.png": (100, 67),
        "2.png": (44, 134),
    }
    assert all(each.truth.shape == each.prediction.shape == each.image.shape for each in frames.values())
    unip.evaluate(
        model=folder, against=folder, data=labelled, split=None, device="cpu", workers=0, out=tmp_path / "c", worst=3
    )


@pytest.mark.filterwarnings("ignore")
def test_a_file_is_compared_with_its_model_strip_by_strip(monkeypatch, folder, graph, labelled):
    data = replace(open_segmentation(labelled, None), conversion=graph.metadata.conversion)
    found = []
    for most in (strips.MAX_WHOLE_LOGITS, 0):
        monkeypatch.setattr(strips, "MAX_WHOLE_LOGITS", most)
        monkeypatch.setattr(strips, "BLOCK_LOGITS", 30_000)
        both = BesideModel(predictor("graph", folder, graph), ReferenceRunner(graph.segmenter, graph.metadata))
        assert len(list(both.count(data))) == len(both.latency) == len(both.end_to_end) == 3
        found.append(both.counted[None].finish())
    for each in found:
        assert (each.frames, each.agreement, each.lost) == (3, 1.0, 0.0) and each.logit_difference < 1e-5
