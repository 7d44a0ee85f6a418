"""OpenVINO and NNCF without their telemetry: they write to the user's folder and open a connection when imported."""

from __future__ import annotations

import importlib
import sys
from typing import Any

SENDER = "openvino_telemetry"


def import_silent(name: str) -> Any:
    """Import a package that does without the package of telemetry if that is not installed, as if it were not.

    Args:
        name: Such as ``openvino``.

    Raises:
        ImportError: The package itself is not installed.
    """
    held = sys.modules.get(SENDER)
    sys.modules[SENDER] = None  # type: ignore[assignment]  # importing it fails
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[SENDER]
        if held is not None:
            sys.modules[SENDER] = held
