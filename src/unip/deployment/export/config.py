"""The settings of `unip export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from unip.config import Config
from unip.data.labelled.settings import DATA_HELP
from unip.errors import UnipError
from unip.limits import MAX_PIXELS
from unip.runtime.settings import MaxPixels
from unip.segmentation.settings import TOLERANCE

Engine = Literal["onnx", "openvino", "torch"]
ExportPrecision = Literal["fp32", "fp16", "bf16", "int8"]
InputType = Literal["uint8", "int32", "float32"]

#: What can be exported.
PRECISIONS: dict[Engine, tuple[ExportPrecision, ...]] = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
    "torch": ("fp32", "bf16"),
}


class ExportConfig(Config):
    """What to export, for which engine, and how to check it."""

    model: Path = Field(description="Folder of a fine-tuning run, or its model/.")
    to: Engine = Field(
        "onnx", description="ONNX Runtime and what else reads ONNX, OpenVINO, or torch.export's archive."
    )
    precision: ExportPrecision = Field("fp32", description="Arithmetic of the file.")
    input: Literal["auto"] | InputType = Field(
        "auto",
        description="What the graph takes: 8-bit frames (uint8), counts (int32) or temperatures in Kelvin (float32); "
        "auto: uint8, or int32 for a model that was trained on frames of more than 8 bits.",
    )
    colours: Literal["auto", "grey", "colour"] = Field(
        "auto", description="Frames (H, W) or (H, W, 3); auto: colour if some frames of training were in colour."
    )
    data: Path | None = Field(None, description=f"Labelled frames to compare file and model on. {DATA_HELP}")
    split: str | None = Field("test", description='Which split of data; "" for a folder without splits.')
    max_images: int = Field(200, ge=0, description="Of data, at most so many, evenly spread; 0: all.")
    tolerance: float = Field(
        TOLERANCE,
        ge=0,
        description="Points of mIoU that the file may lose against the model on data; else it is rejected.",
    )
    calibration: tuple[Path, ...] = Field(
        (), description="int8: frames, files or folders, that ranges are measured on; take them from training."
    )
    calibration_images: int = Field(32, ge=1, description="int8: of calibration, at most so many, evenly spread.")
    golden: tuple[Path, ...] = Field(
        (), description="Frames that the file carries to be checked with, at most 3; none: made ones, nobody's data."
    )
    max_pixels: MaxPixels = MAX_PIXELS
    out: Path | None = Field(None, description="Where the file and its report go; default: MODEL/export.")
    overwrite: bool = Field(False, description="Also replace files in out that were changed since.")
    dry_run: bool = Field(False, description="Check model and data, print what would happen, write nothing.")

    @model_validator(mode="after")
    def _can_be_exported(self) -> ExportConfig:
        there = PRECISIONS.get(self.to, ())
        if self.precision not in there:
            cells = "; ".join(f"{engine}: {', '.join(kinds)}" for engine, kinds in PRECISIONS.items())
            raise UnipError(f"{self.precision} cannot be exported to {self.to}", f"What can be exported is {cells}.")
        if (self.precision == "int8") != bool(self.calibration):
            raise UnipError(
                "int8 needs frames to measure ranges on"
                if not self.calibration
                else f"{self.precision} is not calibrated",
                "Give --calibration FRAMES for int8, and only for it.",
            )
        if self.precision == "int8" and self.data is None:
            raise UnipError(
                "an int8 file is accepted by its mIoU, and there are no labelled frames", "Give some with --data."
            )
        if self.colours == "colour" and self.input not in ("auto", "uint8"):
            raise UnipError(f"frames in colour are 8-bit, but input is {self.input}", "Leave --input out.")
        return self
