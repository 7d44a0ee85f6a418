"""Settings of the machine that verbs share, apart from the code that needs torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unip.config import Setting

Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], Field(description="Where to run.")]

Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    Field(
        description="Arithmetic; auto: bf16 where the GPU, or for segmenting the CPU, computes in it; on older GPUs "
        "fp16 in training; else fp32."
    ),
]

MaxPixels = Annotated[
    int,
    Setting(machine=True, resume="always"),
    Field(
        ge=1,
        description="Largest frame to decode, in pixels (width x height); a header that claims more is refused.",
    ),
]
