"""An accepted file of `unip export` in the place of torch: which one; and torch again for what it does not take."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from unip.data.sampling.scaling import short_side_size
from unip.deployment.config import LoadConfig
from unip.deployment.engine import Engine, Segmented, Wanted
from unip.deployment.engines.exported import open_exported
from unip.deployment.engines.graph_engine import GraphEngine, differing_golden
from unip.deployment.export.files import SUFFIXES, checksum
from unip.deployment.export.metadata import ExportMetadata
from unip.deployment.inputs import Given, Reader
from unip.documents import parse_json, try_fit
from unip.errors import UnipError
from unip.files import sha256
from unip.opening import read_regular
from unip.paths import is_dir, is_file
from unip.runtime.device import choose_device, native_bfloat16
from unip.runtime.shared import Arena
from unip.segmentation.calibration import Calibration
from unip.segmentation.evaluating import results_beside
from unip.segmentation.model import SegmenterSpec
from unip.segmentation.model_folder import model_folder, read_model_config, spec_digest
from unip.segmentation.settings import TOLERANCE, Workers, sees_whole
from unip.vit.sources import WEIGHTS_NAME

log = logging.getLogger(__name__)

RUNS_IN = {"onnx": "onnxruntime", "openvino": "openvino"}  # engines and the packages that run their files


@dataclass(frozen=True)
class _Latency:
    p50: float


@dataclass(frozen=True)
class _Measured:
    latency_ms: _Latency
    lost_miou: float | None = None


@dataclass(frozen=True)
class _Report:
    """What of a report of `unip export` counts here."""

    file: str
    file_sha256: str
    accepted: bool
    metadata: ExportMetadata
    acceptance: _Measured


@dataclass(frozen=True)
class Accepted:
    """An exported file that gives the masks of a model.

    Attributes:
        file: Where it is.
        checksum: What it had when it was accepted, see :func:`unip.deployment.export.files.checksum`.
        metadata: What it says about itself.
        latency_ms: The median that its engine took for a frame, in milliseconds.
        lost: Points of mIoU that it lost against the model; None: that was not measured.
    """

    file: Path
    checksum: str
    metadata: ExportMetadata
    latency_ms: float
    lost: float | None

    def describe(self) -> str:
        """Name it."""
        return f"{self.file} ({self.metadata.engine} in {self.metadata.precision}, {self.latency_ms:g} ms a frame)"


def accepted_files(model: Path) -> list[Accepted]:
    """Return the files that were exported from the weights of a model folder and accepted, the fastest first.

    They are looked for in ``export/`` of the run or model folder, by their reports. Reports that cannot be read are
    said.

    Raises:
        UnipError: There is no such model.
    """
    weights = model_folder(model)
    places = dict.fromkeys((results_beside(model) / "export", weights / "export", weights.parent / "export"))
    found: dict[Path, Accepted] = {}
    for place in filter(is_dir, places):
        for report in sorted(place.glob("*.json")):
            if (one := _read(report)) is not None:
                found[one.file.absolute()] = one
    if not found:
        return []
    own = sha256(weights / WEIGHTS_NAME)
    return sorted((one for one in found.values() if one.metadata.sha256 == own), key=lambda one: one.latency_ms)


def _read(path: Path) -> Accepted | None:
    """Return what a report is of; None: of no file that was accepted, or nobody knows."""
    try:
        report = parse_json(read_regular(path), "it", _Report)
    except OSError as error:
        _tell_damaged(path, error.strerror or str(error))
        return None
    except UnipError as error:
        _tell_damaged(path, error.what)
        return None
    if not report.accepted:
        return None
    if path.name != f"{report.file}.json":
        _tell_damaged(path, f"it is of another file, {report.file!r}")
        return None
    file = path.with_name(report.file)
    measured = report.acceptance
    found = Accepted(file, report.file_sha256, report.metadata, measured.latency_ms.p50, measured.lost_miou)
    return found if is_file(file) else None


def _tell_damaged(path: Path, why: str) -> None:
    """Say that a report is no use; other JSON in the folder is none of unip export's."""
    if path.with_suffix("").suffix in SUFFIXES.values():
        log.warning(
            f"note: {path} does not say whether the exported file beside it was accepted, so that file is not used: "
            f"{why}. Export the model again, or delete both"
        )


def open_accepted(model: Path, config: LoadConfig, name: str) -> Engine | None:
    """Return the fastest accepted file of a model that may run here; None: torch is to run it.

    With ``engine`` auto, that is on the CPU only, and what is left to torch is said.

    Args:
        model: A model or run folder, or the name of a model that ships.
        config: How it is to run.
        name: What it was loaded by.

    Raises:
        UnipError: An engine was asked for, and it cannot run the model.
    """
    wanted = config.engine
    if wanted == "auto" and choose_device(config.device).type != "cpu":
        return None
    obstacle = _obstacle(config)
    if obstacle and wanted == "auto":
        return None
    if obstacle:
        raise UnipError(f"{obstacle} is for model folders that torch runs", "Leave it out, or choose --engine torch.")
    found = accepted_files(model)
    for each in found:
        if (why := _unfit(each, config)) is None:
            try:
                return AcceptedFile(each, model, config, name)
            except UnipError as error:
                why = error.what
        log.info(f"{each.describe()} is not used: {why}")
    if wanted != "auto":
        raise UnipError(
            f"{name} has no accepted file for {wanted} that can be used here",
            f"Make one: unip export {name} --to {wanted}. Or choose --engine torch."
            if all(each.metadata.engine != wanted for each in found)
            else "Why those that are there cannot be used is said above. Choose --engine torch, or give a file itself.",
        )
    spec = try_fit(read_model_config(model)[1].get("spec"), SegmenterSpec)
    if name.startswith("hf:"):  # nobody looks for an export of a model in the hub's cache
        return None
    if spec is None or spec.images is None or _fits(spec, spec.images.size, config):
        log.info(f"torch runs the model; {_advice(name)}")
    return None


def _obstacle(config: LoadConfig) -> str:
    """Name a setting that no exported file has; empty if there is none."""
    settings = {
        "--compile": config.compile,
        "--window slide": config.window == "slide",
        "--batch-size": config.batch_size != "auto",
        "--scale": config.scale not in ("auto", "fit"),
        "--augment": config.augment != "none",
        "--augment-scales": config.augment_scales != (1.0,),
    }
    return next((name for name, is_set in settings.items() if is_set), "")


def _unfit(one: Accepted, config: LoadConfig) -> str | None:
    """Say why a file cannot be used; None if nothing is known against it."""
    metadata = one.metadata
    if metadata.engine not in RUNS_IN:
        return "it would be run by torch, as the model folder is"
    if config.engine == "auto" and one.lost is not None and one.lost > TOLERANCE:  # --tolerance may have allowed more
        return f"it loses {one.lost:.2f} points of mIoU, more than {TOLERANCE}; --engine {metadata.engine} takes it"
    if config.engine not in ("auto", metadata.engine):
        return f"--engine {config.engine} was requested"
    if config.precision not in ("auto", metadata.precision):
        return f"--precision {config.precision} was requested"
    if find_spec(RUNS_IN[metadata.engine]) is None:
        return f"{RUNS_IN[metadata.engine]} is not installed (pip install 'unip[{metadata.engine}]')"
    if metadata.images is not None and not _fits(metadata, metadata.images.size, config):
        height, width = metadata.images.size
        return f"frames of {width}x{height} are segmented in windows, and a file sees them whole (--window whole)"
    return None


def _advice(name: str) -> str:
    """Say what an export would bring."""
    engine = next((each for each in ("openvino", "onnx") if find_spec(RUNS_IN[each]) is not None), None)
    to = engine or "openvino"
    precision = " --precision bf16" if to == "openvino" and native_bfloat16() else ""
    install = "" if engine else f"pip install 'unip[{to}]' and "
    return (
        f"on a CPU an exported file is usually faster, and used from then on: {install}unip export {name} --to {to}"
        + (precision)
    )


def _fits(model: ExportMetadata | SegmenterSpec, size: tuple[int, int], config: LoadConfig) -> bool:
    """Say whether frames of a height and width, in pixels, are segmented whole, as files do."""
    return sees_whole(short_side_size(*size, model.short_side), model.crop, config.window)


class AcceptedFile:
    """An exported file that runs a model; frames that it does not take are run by torch.

    Args:
        accepted: The file.
        model: The folder that it was exported from.
        config: How the model is to run.
        name: What it was loaded by.

    Raises:
        UnipError: The file is damaged or of other weights, cannot have these settings, or gives other masks here.
    """

    def __init__(self, accepted: Accepted, model: Path, config: LoadConfig, name: str) -> None:
        self.model, self.config, self.name = model, config, name
        if checksum(accepted.file) != accepted.checksum:
            raise UnipError(f"{accepted.file} was changed or damaged since it was accepted", "Export the model again.")
        self.graph: GraphEngine = open_exported(str(accepted.file), config.model_copy(update={"check": "none"}))
        metadata, folder = self.graph.runner.metadata, model_folder(model)
        again = "Export the model again."
        if metadata != accepted.metadata:
            raise UnipError(f"{accepted.file} is another file than its report is of", again)
        if metadata.calibration != Calibration.read(folder, len(metadata.classes.names)):
            raise UnipError("the model was calibrated again since", again)
        if metadata.spec_sha256 != spec_digest(read_model_config(model)[1]):
            raise UnipError("the model's config.json (classes, conversion, sizes) was changed since", again)
        if bad := differing_golden(self.graph.runner, every=config.check == "all"):
            raise UnipError(f"of {len(bad)} frames that it carries it gives other masks on this device", again)
        facts = self.graph.facts
        self.facts = replace(facts, name=name, folder=folder, view=f"whole images, by {accepted.file}")
        self.graph.facts = self.facts
        self.graph.stand_in = self
        self._torch: Engine | None = None
        self._lock = Lock()

    def segment(
        self,
        items: Iterable[object],
        reader: Reader,
        wanted: Wanted,
        workers: Workers,
        arena: Arena | None = None,
    ) -> Iterator[Segmented]:
        """Segment frames, see :class:`unip.deployment.engine.Engine`."""
        return self.graph.segment(items, reader, wanted, workers)

    def refuses(self, given: Given) -> str:
        """Say why a frame is not for the file; empty if it is."""
        height, width = given.image.shape[:2]
        try:
            size = self.facts.scaling.size(height, width)
        except UnipError as error:
            return error.what
        metadata = self.graph.runner.metadata
        if not sees_whole(size, metadata.crop, self.config.window):
            return f"{width}x{height} pixels are segmented in windows"
        return "" if max(size) <= metadata.longest else f"{width}x{height} pixels are too long for the file at once"

    def segment_instead(self, item: object, given: Given, why: str, reader: Reader, wanted: Wanted) -> Segmented:
        """Let torch segment a frame.

        Args:
            item: The frame as it was given.
            given: The same, read.
            why: What is said with the first one.
            reader: Reads it.
            wanted: What to compute.
        """
        with self._lock:
            if self._torch is None:
                from unip.deployment.engines.torch_engine import TorchEngine

                self._torch = TorchEngine(self.model, self.config, self.name)
                log.warning(
                    f"note: torch segments frames that the exported file does not take: {given.name}: {why} (in "
                    f"{self._torch.facts.precision})"
                )
        return replace(next(iter(self._torch.segment([item], reader, wanted, 0))), given=given, engine="torch")
