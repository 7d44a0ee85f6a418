"""What users of other packages type first, and what it is here."""

from __future__ import annotations

from collections.abc import Mapping

#: Of the package itself.
PACKAGE = {
    "YOLO": "unip.load(MODEL)",
    "export_onnx": "unip.export(model=MODEL)",
    "load_model": "unip.load(MODEL)",
    "train": "unip.finetune(data=DATA, out=RUN)",
    "train_semantic_segmentation": "unip.finetune(data=DATA, out=RUN)",
    "val": "unip.evaluate(model=MODEL, data=DATA)",
}

#: Of a loaded model.
MODEL = {
    "benchmark": "unip.load(FILE) of each file of model.export(...), and its results' timings",
    "cpu": 'unip.load(MODEL, device="cpu")',
    "cuda": 'unip.load(MODEL, device="cuda")',
    "device": "model.facts.device",
    "eval": "nothing, as a loaded model is ready to be called",
    "export_onnx": "model.export()",
    "export_tensorrt": "model.export(), see examples/tensorrt_check.py",
    "finetune": "unip.finetune(model=MODEL, data=DATA, out=RUN)",
    "half": 'unip.load(MODEL, precision="fp16")',
    "info": "print(model)",
    "model": "unip.segmentation.storage.load_segmenter(MODEL), the network alone",
    "predict_sahi": "model(frames): large frames are cut into windows",
    "save": "nothing, as the model is in model.facts.folder",
    "test": "model.evaluate(data=DATA)",
    "to": 'unip.load(MODEL, device="cuda")',
    "train": "unip.finetune(model=MODEL, data=DATA, out=RUN)",
    "val": "model.evaluate(data=DATA)",
}

#: Of a result.
RESULT = {
    "boxes": "result.polygons()",
    "cpu": "nothing, as all arrays are of numpy",
    "masks": "result.mask, the class of each pixel",
    "numpy": "nothing, as all arrays are of numpy",
    "orig_img": "result.image",
    "orig_shape": "result.size",
    "probs": "result.probabilities",
    "save_txt": "result.polygons()",
    "speed": "result.timings",
    "to_csv": "pandas.DataFrame(result.summary()).to_csv()",
    "to_df": "pandas.DataFrame(result.summary())",
    "to_json": "pandas.DataFrame(result.summary()).to_json()",
    "tojson": "pandas.DataFrame(result.summary()).to_json()",
    "verbose": "print(result)",
}


def missing(owner: str, name: str, hints: Mapping[str, str]) -> AttributeError:
    """Return the error for a name that ``owner`` does not have, with what to write instead if that is known."""
    instead = f"; instead: {hints[name]}" if name in hints else ""
    return AttributeError(f"{owner} has no attribute {name!r}{instead}")
