"""`unip export`: from a model folder to a file of another engine that was compared with it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from unip.data.images.files import list_images
from unip.data.labelled.matching import match_classes
from unip.data.labelled.pairs import SegmentationData
from unip.data.sampling.scaling import short_side_size
from unip.deployment.config import LoadConfig
from unip.deployment.engines.graph_engine import GraphEngine
from unip.deployment.export.acceptance import (
    Acceptance,
    check_first_frame,
    compare_on_data,
    compare_on_golden,
    warn_of_corrupted,
)
from unip.deployment.export.config import ExportConfig, InputType
from unip.deployment.export.file_predictor import BesideModel, FilePredictor
from unip.deployment.export.files import ExportFiles, checksum
from unip.deployment.export.golden import golden_frames, read_frame
from unip.deployment.export.graph import trace
from unip.deployment.export.half_precision import to_half, weighted_products
from unip.deployment.export.integers import quantise
from unip.deployment.export.metadata import (
    GOLDEN_KEY,
    KEY,
    LIMITS_KEY,
    ExportMetadata,
    pack_golden,
    size_limits,
)
from unip.deployment.export.onnx_file import save_onnx, to_onnx
from unip.deployment.export.openvino_file import check_bfloat16, save_openvino
from unip.deployment.export.reference import ReferenceRunner
from unip.deployment.export.runners import Runner, open_runner
from unip.errors import UnipError
from unip.files import read_json, sha256
from unip.log import TableMessage
from unip.outputs import remove, write_json, writing
from unip.paths import exists
from unip.runtime.memory import resident_bytes
from unip.segmentation.calibration import Calibration
from unip.segmentation.held_out import Evaluated
from unip.segmentation.model import Segmenter
from unip.segmentation.model_folder import model_folder, spec_digest
from unip.segmentation.settings import sees_whole
from unip.segmentation.storage import load_segmenter
from unip.version import __version__
from unip.vit.sources import WEIGHTS_NAME
from unip.zoo.catalogue import zoo_model
from unip.zoo.lineage import read_lineage

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf")


@dataclass(frozen=True)
class ExportResult:
    """The exported file, its report, what the file says about itself, and how it compares with the model."""

    file: Path
    report: Path
    metadata: ExportMetadata = field(repr=False)
    acceptance: Acceptance


def export_model(config: ExportConfig, files: ExportFiles, opened: Evaluated | None) -> ExportResult | None:
    """Do what is left of :func:`unip.deployment.verbs.export` once the paths are checked.

    Args:
        config: The settings.
        files: The names of what is written.
        opened: The labelled frames of ``config.data``.
    """
    segmenter = load_segmenter(config.model)
    metadata = describe_file(config, segmenter)
    data = None if opened is None else _fitting(segmenter, opened.data, config, metadata)
    describe(config, metadata, files)
    if opened is not None:
        for note in opened.notes:
            log.warning(note)
    golden = golden_frames(segmenter, metadata, config.golden)
    frames = calibration_frames(config, metadata)
    if (metadata.engine, metadata.precision) == ("openvino", "bf16"):
        check_bfloat16()
    if config.dry_run:
        log.info(f"dry run: would write {files.made} and {files.report} to {files.out}; nothing was written")
        return None
    texts = {KEY: metadata.as_json(), GOLDEN_KEY: pack_golden(golden), LIMITS_KEY: metadata.limits_text()}
    with tempfile.TemporaryDirectory(prefix="unip-export-") as folder:
        made = Path(folder) / files.made
        make(segmenter, metadata, made, texts, frames)
        before = resident_bytes()
        runner = open_runner(made)
        runner.outputs(golden[0].frame)  # the first call is slower, and takes the memory
        after = resident_bytes()
        memory = None if before is None or after is None else max(0, after - before)
        accepted = compare(segmenter, runner, made, memory, data)
        reason = accepted.rejection(metadata, config.tolerance)
        kept = files.out / (files.rejected if reason else files.made)
        for stale in {files.made, files.rejected, *files.weights} - {kept.name}:
            if exists(files.out / stale):
                remove(files.out / stale)
        for suffix in (*([".bin"] if files.weights else []), made.suffix):
            with writing(kept.with_suffix(suffix)) as temporary:
                shutil.move(made.with_suffix(suffix), temporary)
    report = {
        **{"file": kept.name, "file_sha256": checksum(kept), "accepted": not reason, "reason": reason},
        **{"metadata": metadata.model_dump(mode="json"), "acceptance": accepted.to_dict(config.tolerance)},
    }
    write_json(files.out / files.report, report)
    log.info(TableMessage(accepted.table(config.tolerance)))
    warn_of_corrupted(accepted, config.tolerance)
    if reason:
        raise UnipError(f"{files.made} is not written: {reason}", f"What was made is kept as {kept} to look into.")
    log.info(f"exported to {kept}; the report is {files.out / files.report}")
    return ExportResult(kept, files.out / files.report, metadata, accepted)


def describe_file(config: ExportConfig, segmenter: Segmenter) -> ExportMetadata:
    """Resolve what is left at ``auto``, and gather what the file says about itself.

    Raises:
        UnipError: The conversion cannot be put into a graph.
    """
    spec, folder = segmenter.spec, model_folder(config.model)
    images = spec.images
    coloured = config.colours == "colour" or (
        config.colours == "auto" and config.input in ("auto", "uint8") and images is not None
        and images.colours != "grey" and spec.conversion.palette == "keep"
    )  # fmt: skip
    deep = not coloured and images is not None and images.depth == "more than 8 bits"
    kind: InputType = ("int32" if deep else "uint8") if config.input == "auto" else config.input
    check_percentiles(segmenter)
    entry = zoo_model(str(config.model))
    record: Any = read_json(folder / "config.json")
    largest, longest = size_limits(spec.short_side, spec.crop, images)
    return ExportMetadata(
        engine=config.to,
        precision=config.precision,
        input=kind,
        channels=3 if coloured else 1,
        classes=spec.classes,
        conversion=spec.conversion,
        images=images,
        short_side=spec.short_side,
        crop=spec.crop,
        patch=segmenter.patch,
        largest=largest,
        longest=longest,
        calibration=Calibration.read(folder, len(spec.classes.names)),
        model=str(config.model),
        sha256=sha256(folder / WEIGHTS_NAME),
        spec_sha256=spec_digest(record),
        licence=None if entry is None else entry.licence,
        lineage=read_lineage(record, str(folder / "config.json")),
        versions={"unip": __version__, **_versions()},
    )


def check_percentiles(segmenter: Segmenter) -> None:
    """Refuse percentiles that a graph cannot count exactly.

    Raises:
        UnipError: They have more than two decimals.
    """
    conversion = segmenter.spec.conversion
    if conversion.method in ("percentile", "plateau") and any(
        abs(percent * 100 - round(percent * 100)) > 1e-6 for percent in conversion.percentiles
    ):
        low, high = conversion.percentiles
        raise UnipError(
            f"the percentiles {low:g} and {high:g} of the model's conversion have more than two decimals, which a "
            "graph does not count exactly",
            "Train with percentiles of two decimals.",
        )


def calibration_frames(config: ExportConfig, metadata: ExportMetadata) -> list[npt.NDArray[Any]]:
    """Read the frames that ranges of integers are measured on.

    Raises:
        UnipError: One cannot be read, or is not of the type that the graph takes.
    """
    paths = [path for place in config.calibration for path in list_images(place)]
    count = min(len(paths), config.calibration_images)
    return [read_frame(paths[number * len(paths) // count], metadata) for number in range(count)]


def describe(config: ExportConfig, metadata: ExportMetadata, files: ExportFiles) -> None:
    """Say what will be done."""
    shape = "(H, W)" if metadata.channels == 1 else "(H, W, 3)"
    limit = "" if metadata.largest is None else f", up to {metadata.largest[1]}x{metadata.largest[0]} pixels"
    log.info(f"{config.model} to {metadata.engine} in {metadata.precision}: {files.out / files.made}")
    log.info(
        f"it takes frames {shape} of {metadata.input}{limit}, and resizes them to short side {metadata.short_side}"
    )
    log.info(
        "it segments whole frames, as unip predict and evaluate do with frames of up to 1.5 crops a side; larger ones "
        "they cut into windows unless told --window whole, which may give other masks: evaluate the model in both ways"
    )
    if metadata.images is not None:
        height, width = metadata.images.size
        seen = short_side_size(height, width, metadata.short_side)
        if not sees_whole(seen, metadata.crop, "auto"):
            log.warning(
                f"note: frames of {width}x{height}, as in training, are such larger ones: unip predict {config.model} "
                "segments them in windows, and this file whole, so their masks differ. The model below is judged on "
                "whole frames, too. Which is better: unip evaluate MODEL FILE DATA"
            )
    if metadata.input != "uint8":
        log.info(f"frames become grey in the graph, as in training: {metadata.conversion.describe()}")
    if metadata.images is None:
        log.warning(
            "note: the model does not say what it was trained on; frames are taken to be 8-bit grey, or as --input and "
            "--colours say"
        )
    if config.data is None:
        log.warning(
            "note: without --data, file and model are compared on made frames only; give labelled frames of yours"
        )


def make(
    segmenter: Segmenter,
    metadata: ExportMetadata,
    path: Path,
    texts: dict[str, str],
    frames: Sequence[npt.NDArray[Any]],
) -> None:
    """Write the file.

    Args:
        segmenter: On the CPU.
        metadata: What the file is.
        path: Where to.
        texts: What it carries, by keys.
        frames: To measure the ranges of 8-bit integers on.
    """
    log.info("making the graph, which takes up to a minute")
    engine, precision = metadata.engine, metadata.precision
    in_torch = engine == "torch"
    in_bfloat16 = in_torch and precision == "bf16"
    program = trace(
        segmenter, metadata.input, metadata.channels, bfloat16=in_bfloat16, temperature=metadata.temperature
    )
    if in_torch:
        torch.export.save(program, path, extra_files=texts)
        return
    model = to_onnx(program)
    if precision == "fp16":
        to_half(model)
    if engine == "onnx" and precision != "int8":
        save_onnx(model, path, texts)
        return
    if precision == "int8":
        log.info(
            f"measuring the ranges of integers on {len(frames)} frames, each of which takes as long as several do later"
        )
    source = path.with_name("fp32.onnx")
    save_onnx(model, source, texts)
    if engine == "openvino":
        save_openvino(source, path, texts, precision, frames)
    else:
        quantise(source, path, weighted_products(model.graph), frames)


def compare(
    segmenter: Segmenter, runner: Runner, path: Path, memory: int | None, data: SegmentationData | None
) -> Acceptance:
    """Compare the file with the model, on labelled frames if there are any."""
    reference = ReferenceRunner(segmenter, runner.metadata)
    if data is None:
        return compare_on_golden(reference, runner, path, memory)
    engine = GraphEngine(runner, LoadConfig(check="none"), str(path))
    return compare_on_data(BesideModel(FilePredictor(engine, path), reference), memory, data)


def _fitting(
    segmenter: Segmenter, data: SegmentationData, config: ExportConfig, metadata: ExportMetadata
) -> SegmentationData:
    """Take as many labelled frames as are wanted; they have the model's classes, and the type that the graph takes."""
    fitting = match_classes(data, segmenter.spec.classes, remap=(), model=str(config.model), source=str(config.data))
    count = min(len(fitting), config.max_images or len(fitting))
    chosen = fitting.take(number * len(fitting) // count for number in range(count))
    check_first_frame(chosen, metadata)
    return chosen


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found
