"""What benchmarks/peers.py runs in the environment of a library: frames to mask files with a model of random weights.

    python benchmarks/peers_run.py segformer FRAMES MASKS

It knows nothing of unip. The last line that it prints is JSON: the versions used, and what was special.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

THREADS = 2
CLASSES = 5  # with the background
OBJECTS = 12  # of a frame: as many as there are warm rectangles in made ones
CANDIDATES = 10 * OBJECTS  # boxes that suppression gets: a trained model finds an object several times
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

notes: dict[str, Any] = {}


def segformer(paths: list[Path]) -> Iterator[Any]:
    """Run SegFormer-b0, whose config is transformers' default one, at the size of the frame."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    model = SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES)).eval()
    processor = SegformerImageProcessor(do_resize=False)  # else to a square
    for path in paths:
        image = Image.open(path).convert("RGB")
        with torch.inference_mode():
            outputs = model(**processor(images=image, return_tensors="pt"))
            sizes = [(image.height, image.width)]
            yield processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)[0]


def unet(paths: list[Path]) -> Iterator[Any]:
    """Run the U-Net of segmentation_models_pytorch with its default encoder, a ResNet-34."""
    import segmentation_models_pytorch as smp

    model = smp.Unet("resnet34", encoder_weights=None, classes=CLASSES).eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    for path in paths:
        with torch.inference_mode():
            yield model(((_pixels(Image.open(path)) - mean) / std)[None])[0].argmax(0)


def eomt(paths: list[Path]) -> Iterator[Any]:
    """Run lightly-train's EoMT on a DINOv3 ViT-Tiny, by its `predict`, which sees a frame as two square windows."""
    from lightly_train._task_models.dinov3_eomt_semantic_segmentation import task_model

    model = task_model.DINOv3EoMTSemanticSegmentation(
        model_name="dinov3/vitt16-eomt",
        classes={number: f"class {number}" for number in range(CLASSES)},
        class_ignore_index=None,
        image_size=(512, 512),
        image_normalize={"mean": MEAN, "std": STD},
        num_queries=100,  # these two: what its training takes by default
        num_joint_blocks=3,
        load_weights=False,
    ).eval()
    for path in paths:
        yield model.predict(Image.open(path).convert("RGB"))


def yolo_instances(paths: list[Path]) -> Iterator[Any]:
    """Run YOLO11n-seg so that it has as much to do after the network as a trained model would.

    With random weights all boxes have nearly the same score: none or thousands would be kept. So the statistics of its
    normalisation are taken from two frames, which tells places apart, and the confidence is set so that suppression
    gets CANDIDATES boxes of a frame. It leaves OBJECTS of them at most, whose masks are made and drawn into one.
    """
    from ultralytics.nn.tasks import SegmentationModel

    model = _yolo("yolo11n-seg.yaml", SegmentationModel, CLASSES - 1)
    pixels = torch.stack([_pixels(Image.open(path)) for path in paths[:2]])
    for part in model.model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # the average over all that is seen
    with torch.inference_mode():
        model.model.train()(pixels)
        found = model.model.eval()(pixels)[0]
    scores = (found[0] if isinstance(found, tuple) else found)[0, 4 : 3 + CLASSES].amax(0)
    confidence = float(scores.topk(CANDIDATES).values[-1])
    objects = []
    for result in _yolo_results(model, paths, conf=confidence, max_det=OBJECTS):
        mask = torch.zeros(result.orig_shape, dtype=torch.uint8)
        if result.masks is not None:
            for outline, class_id in zip(result.masks.data.flip(0), result.boxes.cls.flip(0), strict=True):
                mask[outline > 0] = int(class_id) + 1  # the surest last
        objects.append(len(result))
        yield mask
    notes["objects a frame"] = round(sum(objects) / len(objects), 1)


def yolo_semantic(paths: list[Path]) -> Iterator[Any]:
    """Run YOLO26n-sem, which gives a class to each pixel."""
    from ultralytics.nn.tasks import SemanticSegmentationModel

    model = _yolo("yolo26n-sem.yaml", SemanticSegmentationModel, CLASSES)
    for result in _yolo_results(model, paths):
        yield result.semantic_mask.data


def _yolo(name: str, kind: Any, classes: int) -> Any:
    """Return a YOLO model with so many classes, which its file cannot say."""
    from ultralytics import YOLO

    yolo = YOLO(name)
    model = kind(name, nc=classes, verbose=False)
    model.args, model.task = yolo.model.args, yolo.task
    yolo.model = model
    return yolo


def _yolo_results(model: Any, paths: list[Path], **settings: Any) -> Iterator[Any]:
    """Yield what `predict` finds in each frame, at 640 pixels, so that it is not resized.

    Ultralytics sets one thread on two cores. It gets as many as the others when it has chosen its device.
    """
    model.add_callback("on_predict_start", lambda _: torch.set_num_threads(THREADS))
    yield from model.predict(str(paths[0].parent), stream=True, imgsz=640, device="cpu", verbose=False, **settings)


def _pixels(image: Image.Image) -> torch.Tensor:
    """Return an image as a network sees it, float32 ``(3, H, W)`` from 0 to 1."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255


PEERS = {
    "segformer": (segformer, "transformers"),
    "unet": (unet, "segmentation-models-pytorch"),
    "eomt": (eomt, "lightly-train"),
    "yolo-instances": (yolo_instances, "ultralytics"),
    "yolo-semantic": (yolo_semantic, "ultralytics"),
}


def main() -> None:
    """Segment all frames of a folder."""
    name, frames, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    run, package = PEERS[name]
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    paths = sorted(frames.iterdir())
    out.mkdir(parents=True)
    for path, mask in zip(paths, run(paths), strict=True):
        array = np.asarray(mask).astype(np.uint8).reshape(np.asarray(Image.open(path)).shape[:2])
        Image.fromarray(array).save(out / f"{path.stem}.png")
    if torch.get_num_threads() != THREADS:
        raise SystemExit(f"{name} ran with {torch.get_num_threads()} threads, not {THREADS}")
    print(json.dumps({each: version(each) for each in (package, "torch")} | notes))


if __name__ == "__main__":
    main()
