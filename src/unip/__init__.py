"""Pre-train, understand, fine-tune and deploy Vision Transformers for infrared semantic segmentation.

The verbs of the command line are functions here, with the same names and settings: ``unip.analyze(models=..., ...)``.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from unip.version import __version__ as __version__

if TYPE_CHECKING:
    from unip import log as log
    from unip.analysis.program import analyze as analyze
    from unip.demonstration.program import demo as demo
    from unip.deployment.evaluation import evaluate as evaluate
    from unip.deployment.prediction import predict as predict
    from unip.pretraining.program import pretrain as pretrain
    from unip.segmentation.finetuning import finetune as finetune
    from unip.suites.program import bench as bench


logging.getLogger("unip").addHandler(logging.NullHandler())  # a library is quiet until its caller asks: see unip.log

# Imported when first used: `import unip` stays instant.
_VERBS = {
    "analyze": "unip.analysis.program",
    "bench": "unip.suites.program",
    "demo": "unip.demonstration.program",
    "evaluate": "unip.deployment.evaluation",
    "finetune": "unip.segmentation.finetuning",
    "predict": "unip.deployment.prediction",
    "pretrain": "unip.pretraining.program",
}


def __getattr__(name: str) -> Any:
    if name == "log":
        return import_module("unip.log")
    if name not in _VERBS:
        raise AttributeError(f"module 'unip' has no attribute {name!r}")
    return getattr(import_module(_VERBS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_VERBS, "log"})
