"""`unip.load`: from a name, a folder, a file or a repository to a model that can be called. Torch comes last."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from unip.data.images.config import PaletteChoice, Polarity
from unip.deployment.config import LoadConfig
from unip.deployment.engines.opening import open_engine
from unip.deployment.model import Model


def load(
    model: str | os.PathLike[str],
    *,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    engine: Literal["auto", "torch", "onnx", "openvino"] = "auto",
    compile: bool = False,
    check: Literal["one", "all", "none"] = "one",
    window: Literal["auto", "slide", "whole"] = "auto",
    scale: Literal["auto", "fit", "native"] | float = "auto",
    augment: Literal["none", "flip"] = "none",
    augment_scales: tuple[float, ...] = (1.0,),
    batch_size: int | Literal["auto"] = "auto",
    palette: PaletteChoice | None = None,
    polarity: Polarity | None = None,
    nodata: float | None = None,
) -> Model:
    """Load a segmentation model, ready to be called: ``result = unip.load("runs/ft")("frame.png")``.

    Args:
        model: A name of `unip models`, the folder of a fine-tuning run or its ``model/``, a file of `unip export`, or
            ``hf:OWNER/NAME``.
        device: Where to run; auto: CUDA, then MPS, then the CPU.
        precision: Arithmetic; auto: bf16 where the GPU or the CPU computes in it, else fp32.
        engine: What runs a model folder: torch, or an accepted file of `unip export` in its ``export/``; auto: on the
            CPU the fastest of these whose engine is installed, else torch.
        compile: Compile the model with torch.compile when it runs first.
        check: Segment one or all of the golden frames of an exported file, and warn if this device gives them other
            masks; one: that which takes least time.
        window: Overlapping windows of the training crop's size, or the whole image at once; auto: whole where no
            side, resized, is longer than 1.5 crops.
        scale: How frames are resized. fit: to the model's short side. native: as those of training were, whatever their
            size, cut into windows. auto: fit; native for frames of twice the short side of those of training and more.
            A number: by that.
        augment: Test-time augmentation: ``flip`` also segments mirrored images; logits are averaged.
        augment_scales: Test-time augmentation: factors of the size at which the model sees frames.
        batch_size: Windows that run together; auto: 8, on a GPU 24.
        palette: Turn colours of a palette back into grey (invert, or its name); None: as in training.
        polarity: How the frames are stored; black-hot ones are inverted; None: as in training.
        nodata: Value of samples without a measurement; None: as in training.

    Raises:
        UnipError: There is no such model, it is damaged, a setting is wrong, or the device is not there.
    """
    config = LoadConfig.make(
        device=device,
        precision=precision,
        engine=engine,
        compile=compile,
        check=check,
        window=window,
        scale=scale,
        augment=augment,
        augment_scales=augment_scales,
        batch_size=batch_size,
        palette=palette,
        polarity=polarity,
        nodata=nodata,
    )
    return load_with(os.fspath(model), config)


def load_with(model: str | Path, config: LoadConfig) -> Model:
    """Load a model as :func:`load` does."""
    return Model(open_engine(str(model), config), config)
