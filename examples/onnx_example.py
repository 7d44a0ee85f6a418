"""Segment frames with an exported model. Needs numpy, onnxruntime and pillow only.

python onnx_example.py MODEL.onnx FRAME ... writes FRAME.mask.png, whose pixels are class ids.
"""

import base64
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def unpack(held):
    data = zlib.decompress(base64.b64decode(held["zlib"]))
    return np.frombuffer(data, held["dtype"]).reshape(held["shape"])


def read(path, about):
    """Read a frame; refuse what the graph would segment wrongly."""
    conversion = about["conversion"]
    if conversion["palette"] != "keep" or conversion["radiometric"]:
        sys.exit("this model takes grey levels of a palette, or temperatures of radiometric files: use unip")
    with Image.open(path) as image:
        if image.mode == "P":
            image = image.convert("RGB")
        frame = np.asarray(image)
        three_for_one = image.mode == "RGB" and about["channels"] == 1  # transparency is refused below
        if three_for_one and np.ptp(frame.astype(int), axis=2).max() <= 2:
            frame = np.asarray(image.convert("L"))  # grey, stored in three channels
    kind = "uint8" if frame.dtype == np.uint8 else "float32" if frame.dtype.kind == "f" else "int32"
    if kind != about["input"]:
        sys.exit(f"{path} holds {frame.dtype}, but the model takes {about['input']}")
    if frame.shape[2:] != ((3,) if about["channels"] == 3 else ()):
        sys.exit(f"{path} has the shape {frame.shape}, but the model takes {about['channels']} channels")
    short, long = sorted(frame.shape[:2])
    largest = about["largest"] or (short, long)
    if short > largest[0] or long > largest[1] or long * about["short_side"] / short > about["longest"]:
        sys.exit(f"{path} is larger than the model is right for: cut it into tiles, or use unip")
    return frame.astype(kind)


def main(model, *frames):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    held = session.get_modelmeta().custom_metadata_map
    about = json.loads(held["unip"])
    for golden in json.loads(held["unip_golden"]):
        (ids,) = session.run(["ids"], {"frame": unpack(golden["frame"])})
        print(f"golden frame: {(ids == unpack(golden['ids'])).mean():.2%} of pixels as in torch")
    names = about["classes"]["names"]
    for path in frames:
        ids, confidence = session.run(["ids", "confidence"], {"frame": read(path, about)})
        shares = ", ".join(f"{name} {(ids == i).mean():.1%}" for i, name in enumerate(names))
        print(f"{path}: {shares}; mean confidence {confidence.mean():.2f}")
        mask = Image.fromarray(ids, "P")
        mask.putpalette([level for colour in about["classes"]["palette"] for level in colour])
        mask.save(Path(path).with_suffix(".mask.png"))


if __name__ == "__main__":
    main(*sys.argv[1:])
