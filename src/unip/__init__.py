"""Pre-train, understand, fine-tune and deploy Vision Transformers for infrared semantic segmentation.

The verbs of the command line are functions here, with the same names and settings: ``unip.analyze(models=..., ...)``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unip.benching.program import bench as bench
    from unip.demonstration.program import demo as demo
    from unip.lab.analyze import analyze as analyze
    from unip.pretraining.program import pretrain as pretrain
    from unip.segment.evaluate import evaluate as evaluate
    from unip.segment.finetune import finetune as finetune
    from unip.segment.predict import predict as predict

__version__ = "0.1.0"

# Imported when first used: `import unip` stays instant.
_VERBS = {
    "analyze": "unip.lab.analyze",
    "bench": "unip.benching.program",
    "demo": "unip.demonstration.program",
    "evaluate": "unip.segment.evaluate",
    "finetune": "unip.segment.finetune",
    "predict": "unip.segment.predict",
    "pretrain": "unip.pretraining.program",
}


def __getattr__(name: str) -> Any:
    if name not in _VERBS:
        raise AttributeError(f"module 'unip' has no attribute {name!r}")
    return getattr(import_module(_VERBS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_VERBS])
