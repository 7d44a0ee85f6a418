"""The command line: one thin function a verb; settings come from ``--config FILE.yaml`` and options, options win."""

from __future__ import annotations

import difflib
import functools
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import torch
from cyclopts import App, ArgumentCollection, CycloptsError, Parameter, ValidationError
from cyclopts.config import Dict as FromDict
from pydantic import ValidationError as PydanticError
from rich.console import Console

import unip
from unip.benching.program import BenchConfig, bench
from unip.config import describe_validation
from unip.data.build import BuildConfig, build
from unip.data.check import CheckConfig, check
from unip.data.dji import ThermalSdkConfig, thermal_sdk
from unip.data.pack import PackConfig, pack
from unip.data.scene_files import ScenesConfig, write_scenes
from unip.data.split import SplitConfig, split
from unip.data.stats import StatsConfig, stats
from unip.demonstration.program import DemoConfig, demo
from unip.errors import Interrupted, UnipError
from unip.files import read_yaml
from unip.lab.analyze import AnalyzeConfig, analyze
from unip.pretraining.program import PretrainConfig, pretrain
from unip.segment.config import FinetuneConfig
from unip.segment.evaluate import EvaluateConfig, evaluate
from unip.segment.finetune import finetune
from unip.segment.predict import PredictConfig, predict
from unip.vit.dedup import DedupConfig, dedup

Flat = Parameter(name="*")
_DEMO = DemoConfig()
_STATS = StatsConfig()

app = App(
    name="unip",
    help="Vision Transformers for infrared semantic segmentation: look inside, distil, fine-tune, evaluate, predict.",
    version=unip.__version__,
    default_parameter=Parameter(consume_multiple=True, negative_iterable=""),
    suppress_keyboard_interrupt=False,  # main() says that it was interrupted
)
app.meta.suppress_keyboard_interrupt = False
data = App(name="data", help="Build, check and pack training data.")
app.command(data)


@app.command(name="analyze")
def _analyze(config: Annotated[AnalyzeConfig, Flat]) -> None:
    """Measure how models attend to images, layer by layer, and name the layer to distil."""
    analyze(config)


@app.command(name="pretrain")
def _pretrain(*, config: Annotated[PretrainConfig, Flat]) -> None:
    """Train a small student on unlabelled images: on a teacher's hybrid attention, or in another way."""
    pretrain(config)


@app.command(name="finetune")
def _finetune(*, config: Annotated[FinetuneConfig, Flat]) -> None:
    """Train a segmentation model on labelled images from a pre-trained backbone."""
    finetune(config)


@app.command(name="evaluate")
def _evaluate(config: Annotated[EvaluateConfig, Flat]) -> None:
    """Measure a segmentation model on labelled images."""
    evaluate(config)


@app.command(name="predict")
def _predict(config: Annotated[PredictConfig, Flat]) -> None:
    """Segment images: masks, overlays and, on request, probabilities."""
    predict(config)


@app.command(name="bench")
def _bench(config: Annotated[BenchConfig, Flat]) -> None:
    """Compare starts on labelled data: a grid of fine-tunings and probes, each run once, and tables of them."""
    bench(config)


@app.command(name="demo")
def _demo(*, config: Annotated[DemoConfig, Flat] = _DEMO) -> None:
    """Run the whole story on synthetic scenes, on two CPU cores in a few minutes."""
    demo(config)


@data.command(name="build")
def _build(config: Annotated[BuildConfig, Flat]) -> None:
    """List the images of a recipe, of folders and manifests in one Parquet manifest."""
    build(config)


@data.command(name="check")
def _check(config: Annotated[CheckConfig, Flat]) -> None:
    """Look for images that are unreadable, empty of content, or unlike the rest of their source."""
    check(config)


@data.command(name="dedup")
def _dedup(config: Annotated[DedupConfig, Flat]) -> None:
    """Mark exact and near duplicates; nothing is deleted."""
    dedup(config)


@data.command(name="pack")
def _pack(config: Annotated[PackConfig, Flat]) -> None:
    """Write a manifest's images into shuffled Parquet shards."""
    pack(config)


@data.command(name="stats")
def _stats(config: Annotated[StatsConfig, Flat] = _STATS) -> None:
    """Measure pixels per source, and classes of labelled data."""
    stats(config)


@data.command(name="split")
def _split(*, config: Annotated[SplitConfig, Flat]) -> None:
    """Split labelled data into train, val and test, keeping videos and flights together."""
    split(config)


@data.command(name="scenes")
def _scenes(*, config: Annotated[ScenesConfig, Flat]) -> None:
    """Make synthetic paired thermal and visible scenes with masks."""
    write_scenes(config)


@data.command(name="thermal-sdk")
def _thermal_sdk(config: Annotated[ThermalSdkConfig, Flat]) -> None:
    """Take over DJI's unpacked Thermal SDK, once, to read the temperatures of DJI R-JPEGs."""
    thermal_sdk(config)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[Path | None, Parameter(help="Recipe file with settings; options win over it.")] = None,
) -> Any:
    app.config = (functools.partial(_fill_from_recipe, config),) if config else ()
    try:
        return app(tokens, exit_on_error=False, print_error=False)
    finally:
        app.config = ()  # a recipe is one call's


def _fill_from_recipe(path: Path, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    recipe = read_yaml(path)
    known = [name.removeprefix("--").replace("-", "_") for argument in arguments for name in argument.names]
    for key in recipe:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "See --help for the settings there are."
            raise UnipError(f"unknown setting {key!r} in {path}", hint)
    if any("--epochs" in argument.names and argument.tokens for argument in arguments):
        recipe.pop("steps", None)  # options win over the recipe, and given steps would win over epochs
    for command in reversed(commands):  # a flat one would lose its key `data` to the command of that name
        recipe = {command: recipe}
    FromDict(recipe, source=str(path))(app, commands, arguments)


def main() -> None:
    """Run the command line; problems print one message and exit with 2, Ctrl-C and SIGTERM with 130."""
    console = Console(stderr=True, soft_wrap=True)
    signal.signal(signal.SIGTERM, _as_ctrl_c)  # training has its own way of stopping, while it trains
    try:
        app.meta(exit_on_error=False, print_error=False)
    except UnipError as error:
        if not error.quiet:
            _complain(console, error.what, error.fix, mark="" if isinstance(error, Interrupted) else "error: ")
        sys.exit(error.exit_code)
    except ValidationError as error:
        cause = error.__cause__
        _complain(
            console, describe_validation(cause) if isinstance(cause, PydanticError) else str(error), "See --help."
        )
        sys.exit(2)
    except CycloptsError as error:
        _complain(console, str(error), "See --help.")
        sys.exit(2)
    except KeyboardInterrupt:
        _complain(console, "interrupted", "", mark="")
        sys.exit(130)
    else:
        if torch.distributed.is_initialized():  # of torchrun; NCCL complains when nobody ends it
            torch.distributed.destroy_process_group()


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _complain(console: Console, what: str, fix: str, mark: str = "error: ") -> None:
    console.print(f"{mark}{what}", style="bold red" if mark else "bold", highlight=False, markup=False)
    if fix:
        console.print(fix, highlight=False, markup=False)
