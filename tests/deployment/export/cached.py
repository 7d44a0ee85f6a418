"""One graph for many exports of the same model: making it takes seconds, and what comes before and after does not."""

from __future__ import annotations

from typing import Any

import pytest

from unip.deployment.export import program
from unip.deployment.export.graph import trace
from unip.deployment.export.onnx_file import to_onnx


def cache_graphs(patch: pytest.MonkeyPatch) -> None:
    """Let `unip export` make an ONNX graph once for each type of frames; only for tests that export one model."""
    made: dict[tuple[Any, ...], Any] = {}

    def once(segmenter: Any, *kind: Any, **how: Any) -> Any:
        import onnx_ir

        if kind not in made:
            made[kind] = onnx_ir.to_proto(to_onnx(trace(segmenter, *kind, temperature=how["temperature"])))
        return onnx_ir.from_proto(made[kind])

    patch.setattr(program, "trace", once)
    patch.setattr(program, "to_onnx", lambda graph: graph)
