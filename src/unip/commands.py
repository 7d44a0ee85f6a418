"""The commands of the command line: a table, and a function for each that is made when the command is used.

Verbs need torch, timm and torchvision, which take seconds to import; so none waits for what another one needs, and
``unip --help`` waits for nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

from cyclopts import Parameter

from unip.config import Config


@dataclass(frozen=True)
class Command:
    """A verb of the command line.

    Attributes:
        module: Where it is.
        function: The verb in it, which takes a config.
        config: The class of that.
        help: What it does, in one sentence.
        positional: Whether settings may be given without their names, in their order.
    """

    module: str
    function: str
    config: str
    help: str
    positional: bool = True

    def make(self) -> Callable[[Any], None]:
        """Return a function of the settings, whose signature the command line reads."""
        module = import_module(self.module)
        settings: type[Config] = getattr(module, self.config)

        def command(config: Any) -> None:
            getattr(module, self.function)(config)

        needed = any(field.is_required() for field in settings.model_fields.values())
        parameter = inspect.Parameter(
            "config",
            inspect.Parameter.POSITIONAL_OR_KEYWORD if self.positional else inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if needed else settings(),
            annotation=Annotated[settings, Parameter(name="*")],
        )
        command.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
        command.__annotations__ = {"config": parameter.annotation}
        command.__doc__ = self.help
        return command


VERBS = {
    "analyze": Command(
        "unip.analysis.program",
        "analyze",
        "AnalyzeConfig",
        "Measure how models attend to images, layer by layer, and name the layer to distil.",
    ),
    "pretrain": Command(
        "unip.pretraining.program",
        "pretrain",
        "PretrainConfig",
        "Train a small student on unlabelled images: on a teacher's hybrid attention, or in another way.",
        positional=False,
    ),
    "finetune": Command(
        "unip.segmentation.finetuning",
        "finetune",
        "FinetuneConfig",
        "Train a segmentation model on labelled images from a pre-trained backbone.",
        positional=False,
    ),
    "evaluate": Command(
        "unip.deployment.evaluation",
        "evaluate",
        "EvaluateConfig",
        "Measure a segmentation model on labelled images.",
    ),
    "predict": Command(
        "unip.deployment.prediction",
        "predict",
        "PredictConfig",
        "Segment images: masks, overlays and, on request, probabilities.",
    ),
    "bench": Command(
        "unip.suites.program",
        "bench",
        "BenchConfig",
        "Compare starts on labelled data: a grid of fine-tunings and probes, each run once, and tables of them.",
    ),
    "demo": Command(
        "unip.demonstration.program",
        "demo",
        "DemoConfig",
        "Run the whole story on synthetic scenes, on two CPU cores in a few minutes.",
        positional=False,
    ),
}

DATA_VERBS = {
    "build": Command(
        "unip.data.building",
        "build",
        "BuildConfig",
        "List the images of a recipe, of folders and manifests in one Parquet manifest.",
    ),
    "check": Command(
        "unip.data.checking",
        "check",
        "CheckConfig",
        "Look for images that are unreadable, empty of content, or unlike the rest of their source.",
    ),
    "dedup": Command(
        "unip.features.deduplication",
        "dedup",
        "DedupConfig",
        "Mark exact and near duplicates; nothing is deleted.",
    ),
    "pack": Command(
        "unip.data.packing",
        "pack",
        "PackConfig",
        "Write a manifest's images into shuffled Parquet shards.",
    ),
    "stats": Command(
        "unip.data.statistics",
        "stats",
        "StatsConfig",
        "Measure pixels per source, and classes of labelled data.",
    ),
    "split": Command(
        "unip.data.splitting",
        "split",
        "SplitConfig",
        "Split labelled data into train, val and test, keeping videos and flights together.",
        positional=False,
    ),
    "scenes": Command(
        "unip.data.scenes.files",
        "write_scenes",
        "ScenesConfig",
        "Make synthetic paired thermal and visible scenes with masks.",
        positional=False,
    ),
    "thermal-sdk": Command(
        "unip.data.images.dji",
        "thermal_sdk",
        "ThermalSdkConfig",
        "Take over DJI's unpacked Thermal SDK, once, to read the temperatures of DJI R-JPEGs.",
    ),
}


def __getattr__(name: str) -> Callable[[Any], None]:
    """Make a command's function; cyclopts asks for it by name when the command is used."""
    known = VERBS | {f"data-{verb}": command for verb, command in DATA_VERBS.items()}
    if name not in known:
        raise AttributeError(f"module 'unip.commands' has no attribute {name!r}")
    return known[name].make()
