"""What `unip export` reads and writes, as far as torch is not needed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from unip.deployment.export.config import Engine, ExportConfig, ExportPrecision
from unip.errors import UnipError
from unip.files import sha256
from unip.paths import is_file
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.evaluating import results_beside, short_name
from unip.segmentation.held_out import Evaluated, open_evaluated

SUFFIXES: dict[Engine, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
PACKAGES: dict[Engine, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino", "onnx", "onnxscript"),  # its graph comes from ONNX
    "torch": (),
}


def check_engine(engine: Engine, precision: ExportPrecision = "fp32") -> None:
    """Refuse an engine that is not installed, or cannot be used with what is needed for a precision.

    Raises:
        UnipError: It is not.
    """
    needed = (*PACKAGES[engine], *(("nncf",) if (engine, precision) == ("openvino", "int8") else ()))
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise UnipError(f"exporting to {engine} needs {', '.join(missing)}", f"pip install 'unip[{engine}]'")


def open_data(config: ExportConfig) -> Evaluated | None:
    """Open the labelled frames to compare on; None: there are none.

    Raises:
        UnipError: They are missing or damaged.
    """
    if config.data is None:
        return None
    return open_evaluated(EvaluateConfig(model=config.model, data=config.data, split=config.split))


@dataclass(frozen=True)
class ExportFiles:
    """The names of what is written.

    Attributes:
        out: The folder.
        made: The exported file.
        rejected: What it is called if it gives other masks than the model.
        weights: The files of the weights, beside those two; empty: they are in the file.
        report: How it compares with the model.
    """

    out: Path
    made: str
    rejected: str
    report: str
    weights: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: ExportConfig) -> ExportFiles:
        """Name them by model, precision and input."""
        given = "" if config.input == "auto" else f"-{config.input}"
        stem = f"{short_name(config.model)}-{config.precision}{given}"
        suffix = SUFFIXES[config.to]
        return cls(
            config.out or results_beside(config.model) / "export",
            f"{stem}{suffix}",
            f"{stem}.rejected{suffix}",
            f"{stem}{suffix}.json",
            (f"{stem}.bin", f"{stem}.rejected.bin") if config.to == "openvino" else (),
        )

    @property
    def all(self) -> tuple[str, ...]:
        """All names."""
        return self.made, self.rejected, self.report, *self.weights


def files_of(path: Path) -> list[Path]:
    """Return the files that an exported model consists of."""
    beside = path.with_suffix(".bin")
    return [path, beside] if path.suffix.lower() == ".xml" and is_file(beside) else [path]


def checksum(path: Path) -> str:
    """Return the SHA-256 of an exported file; of two files, that of their SHA-256 one after the other."""
    found = [sha256(each) for each in files_of(path)]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()
