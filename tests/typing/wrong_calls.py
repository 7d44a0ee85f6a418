"""Calls that a type checker must refuse, each for the reason beside it; tests/test_typing.py runs mypy over them."""

from PIL import Image

import unip
from unip.data.config import CheckConfig
from unip.pretraining.config import PretrainConfig


def misspelt(model: str) -> None:
    unip.finetune(model=model, data="d", out="o", stesp=100)  # refused: did you mean "steps"?
    unip.predict(model=model, images="a.png", probabilites=True)  # refused: did you mean "probabilities"?
    unip.data.check(sources="d", out="o", wrost=3)  # refused: did you mean "worst"?
    unip.data.chek(sources="d", out="o")  # refused: maybe "check"?
    unip.fintune(model=model, data="d", out="o")  # refused: maybe "finetune"?


def missing(model: str) -> None:
    unip.finetune(model=model, data="d")  # refused: No overload variant of "finetune" matches
    unip.evaluate(model=model)  # refused: No overload variant of "evaluate" matches
    unip.data.thermal_sdk()  # refused: require at least one argument
    unip.finetune(model, "d", "o")  # refused: No overload variant of "finetune" matches


def wrong_type(model: str) -> None:
    unip.finetune(model=model, data="d", out="o", steps="many")  # refused: No overload variant of "finetune" matches
    unip.finetune(model=model, data="d", out="o", lr="low")  # refused: No overload variant of "finetune" matches
    unip.finetune(model=model, data="d", out="o", device="gpu")  # refused: No overload variant of "finetune" matches
    unip.finetune(model=model, data="d", out="o", ratio=(0.5, 1, 2))  # refused: expected "tuple[float, float]
    unip.predict(model=model, images=3)  # refused: No overload variant of "predict" matches
    unip.pretrain(data="d", teacher=[1], out="o")  # refused: expected "str | PathLike[str]"
    unip.data.split(data="d", out="o", copy_images="move")  # refused: No overload variant of "split" matches


def dry_run(model: str, dry: bool) -> None:
    print(unip.finetune(model=model, data="d", out="o", dry_run=True).run)  # refused: "None" has no attribute "run"
    print(unip.data.stats(sources="d", dry_run=True).pixels)  # refused: "None" has no attribute "pixels"
    print(unip.demo(dry_run=dry).page)  # refused: "DemoResult | None" has no attribute "page"


def wrong_config(other: PretrainConfig, config: CheckConfig) -> None:
    unip.finetune(other)  # refused: No overload variant of "finetune" matches argument type "PretrainConfig"
    unip.data.check(config, worst=3)  # refused: No overload variant of "check" matches
    print(unip.data.check(config).missing_attribute)  # refused: "CheckResult" has no attribute "missing_attribute"


def wrong_loading(frame: Image.Image) -> None:
    model = unip.load("m", device="gpu")  # refused: Argument "device" to "load" has incompatible type
    unip.load("m", devcie="cpu")  # refused: Unexpected keyword argument "devcie" for "load"
    model(frame, unit="fahrenheit")  # refused: No overload variant of "__call__" of "Model" matches
    print(model(frame).masks)  # refused: "Result" has no attribute "masks"


def words_of_other_packages(model: unip.Model, result: unip.Result) -> None:
    model.val(data="d")  # refused: "Model" has no attribute "val"
    print(result.masks)  # refused: "Result" has no attribute "masks"
