"""All verbs: where each is, so that it is imported when it is used, and its function for Python callers.

Verbs need torch, timm and torchvision, which take seconds to import, so ``import unip`` waits for none of them; and a
wrong setting is refused before the code that needs them is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unip.config import Config


@dataclass(frozen=True)
class Verb:
    """One verb of the command line and of Python.

    Attributes:
        settings: Its config class, with the module.
        function: Its function of such a config, with the module.
        help: What it does, in one sentence.
        positional: Whether the command line takes settings without their names, in their order.
    """

    settings: str
    function: str
    help: str
    positional: bool = True

    def load_settings(self) -> type[Config]:
        """Import the config class."""
        found: type[Config] = _load(self.settings)
        return found

    def run(self, config: Config) -> Any:
        """Import the function and call it; a config with ``dry_run`` set makes a dry run."""
        function = _load(self.function)
        return function(config, dry_run=True) if getattr(config, "dry_run", False) else function(config)


VERBS = {
    "doctor": Verb(
        "unip.data.config.DoctorConfig",
        "unip.data.verbs.doctor",
        "Examine a camera's frames: what they are, what is wrong with them, and what to do next.",
    ),
    "analyze": Verb(
        "unip.analysis.config.AnalyzeConfig",
        "unip.analysis.verbs.analyze",
        "Measure how models attend to images, layer by layer, and name the layer to distil.",
    ),
    "pretrain": Verb(
        "unip.pretraining.config.PretrainConfig",
        "unip.pretraining.verbs.pretrain",
        "Train a small student on unlabelled images: on a teacher's hybrid attention, or in another way.",
        positional=False,
    ),
    "finetune": Verb(
        "unip.segmentation.config.FinetuneConfig",
        "unip.segmentation.verbs.finetune",
        "Train a segmentation model on labelled images from a pre-trained backbone.",
        positional=False,
    ),
    "evaluate": Verb(
        "unip.segmentation.config.EvaluateConfig",
        "unip.deployment.verbs.evaluate",
        "Measure a segmentation model on labelled images.",
    ),
    "predict": Verb(
        "unip.deployment.config.PredictConfig",
        "unip.deployment.verbs.predict",
        "Segment images: masks, overlays and, on request, probabilities.",
    ),
    "export": Verb(
        "unip.deployment.export.config.ExportConfig",
        "unip.deployment.verbs.export",
        "Write a model as a file for another engine, and compare both on the same frames.",
    ),
    "models": Verb(
        "unip.zoo.config.ModelsConfig",
        "unip.zoo.verbs.models",
        "List the models that have a name, or show one with its licence and all that it was made from.",
    ),
    "bench": Verb(
        "unip.suites.config.BenchConfig",
        "unip.suites.verbs.bench",
        "Compare inits on labelled data: a grid of fine-tunings and probes, each run once, with tables.",
    ),
    "demo": Verb(
        "unip.demonstration.config.DemoConfig",
        "unip.demonstration.verbs.demo",
        "Run the whole workflow on synthetic scenes, on two CPU cores in a few minutes.",
        positional=False,
    ),
}

DATA_VERBS = {
    "build": Verb(
        "unip.data.config.BuildConfig",
        "unip.data.verbs.build",
        "List the images of a recipe, of folders and manifests in one Parquet manifest.",
    ),
    "check": Verb(
        "unip.data.config.CheckConfig",
        "unip.data.verbs.check",
        "Find images and labels that do harm: unreadable, without content, off by pixels, shared by splits.",
    ),
    "dedup": Verb(
        "unip.features.config.DedupConfig",
        "unip.features.verbs.dedup",
        "Mark exact and near duplicates; nothing is deleted.",
    ),
    "pack": Verb(
        "unip.data.config.PackConfig",
        "unip.data.verbs.pack",
        "Write a manifest's images into shuffled Parquet shards.",
    ),
    "stats": Verb(
        "unip.data.config.StatsConfig",
        "unip.data.statistics.stats",
        "Measure pixels per source, and classes of labelled data.",
    ),
    "split": Verb(
        "unip.data.config.SplitConfig",
        "unip.data.splitting.split",
        "Split labelled data into train, val and test, keeping videos and flights together.",
        positional=False,
    ),
    "scenes": Verb(
        "unip.data.synthetic.config.ScenesConfig",
        "unip.data.synthetic.files.write_scenes",
        "Make synthetic paired thermal and visible scenes with masks.",
        positional=False,
    ),
    "thermal_sdk": Verb(
        "unip.data.images.config.ThermalSdkConfig",
        "unip.data.images.dji.thermal_sdk",
        "Install DJI's unpacked Thermal SDK once, to read the temperatures of DJI R-JPEGs.",
    ),
}


def function_of(name: str, module: str, verbs: Mapping[str, Verb]) -> Callable[..., Any]:
    """Return a verb as a function of its settings; its code is imported when it is called with settings that are right.

    Args:
        name: The verb.
        module: The module that gives the function to callers.
        verbs: Where the verb is looked up.

    Raises:
        AttributeError: There is no such verb.
    """
    if name not in verbs:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    from unip.config import verb  # not needed for `import unip`
    from unip.signatures import settings_help

    found = verbs[name]
    settings = found.load_settings()

    def run(config: Config) -> Any:
        return found.run(config)

    run.__name__ = run.__qualname__ = name
    run.__module__ = module
    run.__doc__ = f"{found.help}\n\n{how_to_call(name, settings)}\n\n{settings_help(settings)}\n"
    return verb(settings)(run)


def how_to_call(name: str, settings: type[Config]) -> str:
    """Say in one paragraph of a docstring that a config can take the place of the keywords."""
    place = f"{settings.__module__}.{settings.__name__}"
    return f"Settings are keywords, or one ``{place}``;\nthen a dry run is ``{name}(config, dry_run=True)``."


def _load(place: str) -> Any:
    module, _, name = place.rpartition(".")
    return getattr(import_module(module), name)
