"""8-bit OpenVINO graphs: linear layers and convolutions in integers, with ranges measured on the user's frames."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any
from unittest.mock import MagicMock, patch

import numpy.typing as npt

from unip.deployment.export.metadata import INPUT_NAME
from unip.deployment.export.openvino_types import Network, attention_in_bfloat16, names
from unip.deployment.export.telemetry import import_silent
from unip.log import others_quiet


def quantise_openvino(model: Any, frames: Sequence[npt.NDArray[Any]]) -> Any:
    """Return an 8-bit version of an OpenVINO model (post-training quantisation by NNCF).

    Weights are symmetric with a scale for each output channel; activations have the range that they take on the frames.
    Biases are corrected by what rounding changes on average. The products of attention are bfloat16, all else stays
    float32: the conversion and resizing of the frame, norms, and the logits.

    Args:
        model: From an ONNX file.
        frames: Frames as the graph takes them.
    """
    network = Network.of(model)
    chosen = names(network.weighted)
    others = [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_friendly_name() not in chosen and node.get_type_name() not in ("Constant", "Parameter", "Result")
    ]
    import_silent("openvino")
    with others_quiet("torch.utils.cpp_extension"):  # NNCF looks for compilers of CUDA
        nncf = import_silent("nncf")
        # whoever has imported NNCF before has its telemetry
        silent = patch.object(import_silent("nncf.telemetry.decorator"), "telemetry", MagicMock())
    with (
        silent,
        others_quiet("nncf", "torch.utils.cpp_extension"),
        redirect_stdout(StringIO()),
    ):  # it draws progress bars
        quantised = nncf.quantize(
            model,
            nncf.Dataset(frames, lambda frame: {INPUT_NAME: frame}),
            subset_size=len(frames),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=others),
        )
    attention_in_bfloat16(quantised)
    return quantised
