"""Calls that a type checker must accept; tests/test_typing.py runs mypy over them, nothing runs them."""

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np
import numpy.typing as npt
from PIL import Image

import unip
from unip.analysis.program import AnalyzeResult
from unip.data.building import BuildResult
from unip.data.checking import CheckResult
from unip.data.config import CheckConfig
from unip.data.images.dji import ThermalSdkResult
from unip.data.packing import PackResult
from unip.data.splitting import SplitResult
from unip.data.statistics import StatsResult
from unip.data.synthetic.files import ScenesResult
from unip.deployment.prediction import PredictResult
from unip.features.deduplication import DedupResult
from unip.pretraining.program import PretrainResult
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.finetuning import FinetuneResult


def results() -> None:
    """A call without a dry run has a result, which needs no `assert`."""
    assert_type(unip.analyze(models="m", images="a.png"), AnalyzeResult)
    assert_type(unip.pretrain(data="d", teacher="m", out="runs/p"), PretrainResult)
    tuned = unip.finetune(model="m", data="d", out="o")
    assert_type(tuned, FinetuneResult)
    print(tuned.run, unip.evaluate(model=tuned.run, data="d").scores.miou)
    assert_type(unip.predict(model="m", images="a.png"), PredictResult)
    print(unip.bench(suite="s.yaml").out, unip.demo().page)


def results_of_data() -> None:
    """The same for the verbs of data, of which most have a result after a dry run too."""
    assert_type(unip.data.build(sources="d", out="o"), BuildResult)
    assert_type(unip.data.build(sources="d", out="o", dry_run=True), BuildResult)
    assert_type(unip.data.check(sources="d", out="o"), CheckResult)
    assert_type(unip.data.dedup(sources="d", out="o"), DedupResult)
    assert_type(unip.data.pack(manifest="m.parquet", out="o"), PackResult)
    assert_type(unip.data.stats(sources="d"), StatsResult)
    assert_type(unip.data.stats(sources="d", dry_run=True), None)
    assert_type(unip.data.split(data="d", out="o", shares=[0.8, 0.1, 0.1]), SplitResult)
    assert_type(unip.data.scenes(out="o"), ScenesResult)
    assert_type(unip.data.thermal_sdk(source=Path("sdk")), ThermalSdkResult)


def dry_runs(config: FinetuneConfig, checks: CheckConfig, dry: bool) -> None:
    """Whether there is a result is known from the call, with a config too."""
    unip.finetune(model="m", data="d", out="o", dry_run=True)
    assert_type(unip.finetune(model="m", data="d", out="o", dry_run=dry), FinetuneResult | None)
    assert_type(unip.finetune(config), FinetuneResult)
    assert_type(unip.finetune(config, dry_run=dry), FinetuneResult | None)
    assert_type(unip.data.check(checks, dry_run=True), CheckResult)


def settings(paths: list[Path], names: list[str]) -> None:
    """One for many, any sequence, text or path, `auto` or a number."""
    unip.predict(model=Path("runs/ft"), images=paths)
    unip.predict(model="runs/ft", images=("a.png", Path("b.png")), batch_size=4)
    unip.analyze(models=names, images=paths, exclude_layers=3, probe_images=[20, 10])
    unip.pretrain(data=[Path("d")], teacher=("m", "n"), teacher_layer=["auto", 6], out=Path("o"), lr=1e-3)
    unip.finetune(model=Path("m"), data="d", out="o", layers=range(1, 5), base=(640, 512), compile="graphs")
    unip.finetune(model="m", data="d", out="o", remap={"truck": "vehicle"}, val=None, lr="auto")


def loaded(paths: list[Path], kelvin: npt.NDArray[np.float32], image: Image.Image, name: str) -> None:
    """A model gives one result for one frame and a list for many; a path may be a folder."""
    model = unip.load(Path("runs/ft"), device="cuda", precision="bf16", batch_size=4)
    assert_type(model, unip.Model)
    assert_type(model(kelvin, unit="kelvin"), unip.Result)
    assert_type(model(image, risk=0.05).mask, npt.NDArray[np.uint8])
    assert_type(model(paths), list[unip.Result])
    assert_type(model((each for each in [kelvin]), unit="celsius"), list[unip.Result])
    assert_type(model(name, stream=True), Iterator[unip.Result])
    assert_type(model(paths, stream=True), Iterator[unip.Result])
    assert_type(model.predict(image), unip.Result)
    assert_type(model.export("openvino", precision="bf16").file, Path)
    print(model.evaluate("d", split="val").scores.miou)
    print(model(name).summary(), model.names, unip.Model.from_pretrained("owner/name", device="cpu")(name).labels)


def errors() -> str:
    """Errors are those of the package itself."""
    try:
        unip.data.check(sources=[Path("d")], out="o")
    except unip.Interrupted as stopped:
        return f"{stopped.exit_code}"
    except unip.UnipError as error:
        return error.what + error.fix
    return unip.__version__
