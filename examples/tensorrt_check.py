"""Build an exported model with TensorRT on this device, and say whether it still gives the same masks.

python tensorrt_check.py MODEL-fp16.onnx [FRAME ...] writes MODEL-fp16.tensorrt.json and prints it.

unip's developers have not run this: TensorRT could not be had where it was written. Needs tensorrt 10 (strongly typed
networks), onnx, torch with CUDA (for memory on the device), numpy, and pillow. The file should be one of
`unip export --precision fp16` or fp32: its types are part of it, and TensorRT is told to keep them. Exit code 2: fewer
than 99 % (fp32: 99.9 %) of the pixels of the golden frames have the class that the model has in torch.
"""

import base64
import json
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import tensorrt
import torch
from PIL import Image

RUNS = 50  # of the first frame, timed


def unpack(held):
    data = zlib.decompress(base64.b64decode(held["zlib"]))
    return np.frombuffer(data, held["dtype"]).reshape(held["shape"]).copy()


def read_texts(path):
    """Return what the file says about itself."""
    import onnx

    return {each.key: each.value for each in onnx.load(path, load_external_data=False).metadata_props}


def build(path, about):
    """Return an execution context for frames of all sizes up to the largest that the file is right for."""
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(Path(path).read_bytes()):
        sys.exit("\n".join(str(parser.get_error(number)) for number in range(parser.num_errors)))
    short, long = about["largest"] or (about["short_side"], about["longest"])
    usual = (about["images"] or {}).get("size") or (short, short)
    colour = (3,) if about["channels"] == 3 else ()
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("frame", (16, 16, *colour), (*usual, *colour), (long, long, *colour))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        sys.exit("TensorRT could not build the network; its messages are above")
    engine = tensorrt.Runtime(logger).deserialize_cuda_engine(plan)
    return engine, engine.create_execution_context(), plan.nbytes


def run(engine, context, frame):
    """Return the outputs for one frame by their names, on the device, and the seconds that it took."""
    given = torch.from_numpy(frame).cuda()
    context.set_input_shape("frame", tuple(given.shape))
    context.set_tensor_address("frame", given.data_ptr())
    types = {tensorrt.uint8: torch.uint8, tensorrt.float32: torch.float32}
    outputs = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.OUTPUT:
            shape = tuple(context.get_tensor_shape(name))
            outputs[name] = torch.empty(shape, dtype=types[engine.get_tensor_dtype(name)], device="cuda")
            context.set_tensor_address(name, outputs[name].data_ptr())
    stream = torch.cuda.current_stream()
    stream.synchronize()
    begun = time.perf_counter()
    if not context.execute_async_v3(stream.cuda_stream):
        sys.exit("TensorRT could not run the network; its messages are above")
    stream.synchronize()
    return outputs, time.perf_counter() - begun


def main(path, *frames):
    texts = read_texts(path)
    if "unip" not in texts:
        sys.exit(f"{path} was not exported by unip")
    about = json.loads(texts["unip"])
    engine, context, size = build(path, about)
    agreements = []
    for golden in json.loads(texts["unip_golden"]):
        outputs, _ = run(engine, context, unpack(golden["frame"]))
        agreements.append(float((outputs["ids"].cpu().numpy() == unpack(golden["ids"])).mean()))
    shares, seconds = {}, []
    for name in frames:
        frame = np.asarray(Image.open(name)).astype(about["input"])
        outputs, _ = run(engine, context, frame)
        counted = np.bincount(outputs["ids"].cpu().numpy().ravel(), minlength=len(about["classes"]["names"]))
        shares[name] = dict(zip(about["classes"]["names"], (counted / counted.sum()).round(4).tolist(), strict=False))
        if not seconds:
            seconds = [run(engine, context, frame)[1] for _ in range(RUNS)]
    wanted = 0.999 if about["precision"] == "fp32" else 0.99
    report = {
        "file": str(path),
        "device": torch.cuda.get_device_name(),
        "tensorrt": tensorrt.__version__,
        "golden frames: pixels as in torch": agreements,
        "accepted": bool(agreements) and min(agreements) >= wanted,
        "plan, MB": round(size / 1e6, 1),
        "ms a frame, p50 and p99": [round(1e3 * float(q), 2) for q in np.percentile(seconds, [50, 99])]
        if seconds
        else None,
        "shares of classes": shares,
    }
    Path(path).with_suffix(".tensorrt.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    if not report["accepted"]:
        sys.exit(2)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
