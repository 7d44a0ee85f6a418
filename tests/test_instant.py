"""Help, misspelt settings, wrong values and wrong paths are answered before torch is imported, which takes seconds.

All calls of one kind share a process, which tells after each what it was the first to import.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from unip.verbs import DATA_VERBS, VERBS
from unip.vit.sources import BACKBONE_FORMAT, SEGMENTER_FORMAT

VERB_NAMES = [*VERBS, *(f"data {name.replace('_', '-')}" for name in DATA_VERBS)]
SLOW = ("torch", "timm", "torchvision", "accelerate", "pyarrow", "matplotlib", "datasets", "safetensors.torch")
NUMERIC = ("numpy", "PIL.Image", "tifffile")  # a tenth of a second: worth it for a look at files, not for help

# Reads calls from stdin, a list of words each, and prints what came of them: exit code, stderr, modules.
SHELL = """
import contextlib, io, json, sys
from unip import cli
found = []
watched, calls = json.load(sys.stdin)
for words in calls:
    sys.argv, code, errors = ["unip", *words], 0, io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    new = [name for name in watched if name in sys.modules]
    watched = [name for name in watched if name not in new]
    found.append([code, errors.getvalue(), new])
print(json.dumps(found))
"""

# The same for calls of Python: the place of a function and its settings.
PYTHON = """
import importlib, json, sys
from unip.errors import UnipError
found = []
watched, calls = json.load(sys.stdin)
for module, name, settings in calls:
    code, what = 0, ""
    try:
        getattr(importlib.import_module(module), name)(**settings)
    except UnipError as error:
        code, what = error.exit_code, error.what
    new = [name for name in watched if name in sys.modules]
    watched = [name for name in watched if name not in new]
    found.append([code, what, new])
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Answer:
    """What a call gave, and which of the modules that it must not need it was the first to import."""

    code: int
    error: str
    imported: list[str]


def ask(script: str, watched: Sequence[str], calls: Sequence[Any]) -> list[Answer]:
    """Make calls in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps([watched, calls]), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [Answer(*found) for found in json.loads(done.stdout)]


# Settings ---------------------------------------------------------------------------------------------------------

# A call with a value that does not fit; with what else is required, as that is asked for first.
WRONG_VALUES = {
    "doctor": ["a", "--frames", "-1"],
    "analyze": ["timm:a", "--images", "b", "--max-images", "0"],
    "pretrain": ["--data", "a", "--out", "b", "--objective", "mae", "--scale", "2", "3"],
    "finetune": ["--model", "a", "--data", "b", "--out", "c", "--label-budget", "2.5"],
    "evaluate": ["a", "b", "--window", "whale"],
    "predict": ["a", "b", "--alpha", "7"],
    "export": ["a", "--tolerance", "-1"],
    "models": ["a", "--commercial=perhaps"],
    "bench": ["a", "--workers-per-device", "0"],
    "demo": ["--label-budget", "none"],
    "data build": ["a", "--out", "b", "--workers", "-1"],
    "data check": ["a", "--out", "b", "--max-saturated", "2"],
    "data dedup": ["a", "--out", "b", "--rule", "far"],
    "data pack": ["a", "b", "--format", "gif"],
    "data stats": ["--workers", "-1"],
    "data split": ["--data", "a", "--out", "b", "--copy-images=perhaps"],
    "data scenes": ["--out", "a", "--size", "8", "8"],
    "data thermal-sdk": ["a", "--dry-run=perhaps"],
}
SETTINGS = {
    **{f"{verb} --help": [*verb.split(), "--help"] for verb in ["", "data", *VERB_NAMES]},
    **{f"{verb} misspelt": [*verb.split(), "--overwrit"] for verb in VERB_NAMES},
    **{f"{verb} wrong value": [*verb.split(), *words] for verb, words in WRONG_VALUES.items()},
}


@pytest.fixture(scope="module")
def settings_answers() -> dict[str, Answer]:
    return dict(zip(SETTINGS, ask(SHELL, [*SLOW, *NUMERIC], list(SETTINGS.values())), strict=True))


def test_no_verb_is_left_out():
    assert list(WRONG_VALUES) == VERB_NAMES
    assert {verb for verb, *_ in PATHS} == set(VERB_NAMES)


@pytest.mark.parametrize("call", SETTINGS)
def test_settings(settings_answers, call):
    answer = settings_answers[call]
    assert (answer.code, answer.imported) == (0 if call.endswith("--help") else 2, [])
    assert answer.error.startswith("error: ") or call.endswith("--help")


# Paths ------------------------------------------------------------------------------------------------------------

OUT = ["--out", "OUT"]
TRAINED = ["--data", "FRAMES", *OUT]
FINE_TUNED = ["--model", "unip_tiny", *OUT]
# Verb, words (those in capitals are places of the fixture below), and what the message says.
PATHS: list[tuple[str, list[str], str]] = [
    ("doctor", ["MISSING", *OUT], "no such folder or image: MISSING"),
    ("doctor", ["EMPTY", *OUT], "no images in EMPTY"),
    ("doctor", ["TEXT", *OUT], "TEXT is not an image file by its name"),
    ("doctor", ["FRAMES", "--out", "TEXT"], "TEXT is a file"),
    ("analyze", ["unip_tiny", "--images", "MISSING", *OUT], "no such folder or image: MISSING"),
    ("analyze", ["unip_tiny", "--images", "TEXT", *OUT], "TEXT is not an image file by its name"),
    ("analyze", ["unip_tiny", "--images", "EMPTY", *OUT], "no images in EMPTY"),
    ("analyze", ["unip_tiny", "--images", "MISSING.parquet", *OUT], "no such manifest: MISSING.parquet"),
    ("analyze", ["unip_tiny", "--images", "FRAMES", "--pair", "MISSING", *OUT], "no such folder or image: MISSING"),
    ("analyze", ["MISSING", "--images", "FRAMES", *OUT], "no backbone 'MISSING'"),
    ("analyze", ["unip_tin", "--images", "FRAMES", *OUT], "Did you mean 'unip_tiny'?"),
    ("analyze", ["EMPTY", "--images", "FRAMES", *OUT], "EMPTY is not a model folder"),
    ("analyze", ["OTHER", "--images", "FRAMES", *OUT], "format 'other'"),
    ("analyze", ["TEXT", "--images", "FRAMES", *OUT], "TEXT is truncated or not a checkpoint"),
    ("analyze", ["FRAME", "--images", "FRAMES", *OUT], "FRAME is truncated or not a checkpoint"),
    ("analyze", ["CUT", "--images", "FRAMES", *OUT], "CUT is truncated or not a checkpoint"),
    ("analyze", ["timm:vit_tiny_patch16_224@MISSING", "--images", "FRAMES", *OUT], "checkpoint MISSING does not exist"),
    ("analyze", ["hf:a b", "--images", "FRAMES", *OUT], "hf:a b is not a repository name"),
    ("analyze", ["unip_tiny", "--images", "FRAMES", "--out", "TEXT"], "TEXT is a file"),
    ("analyze", ["unip_tiny", "--images", "FRAMES", "--probe", "MISSING", *OUT], "no such folder: MISSING"),
    ("analyze", ["unip_tiny", "--images", "FRAMES", "--probe", "TRAIN", *OUT], "no split to test on"),
    ("pretrain", ["--teacher", "unip_tiny", "--data", "MISSING", *OUT], "no such folder or image: MISSING"),
    ("pretrain", ["--teacher", "unip_tiny", "--data", "infrared=EMPTY", *OUT], "no images in EMPTY"),
    ("pretrain", ["--teacher", "MISSING", *TRAINED], "no backbone 'MISSING'"),
    ("pretrain", ["--teacher", "TEXT", *TRAINED], "TEXT is truncated or not a checkpoint"),
    ("pretrain", ["--objective", "mae", "--init", "MISSING", *TRAINED], "no backbone 'MISSING'"),
    ("pretrain", ["--objective", "mae", "--student", "unip_huge", *TRAINED], "unknown student 'unip_huge'"),
    ("pretrain", ["--objective", "mae", "--data", "FRAMES", "--out", "TEXT"], "TEXT is a file"),
    ("pretrain", ["--objective", "mae", "--data", "FRAMES", "--out", "FRAMES"], "is not empty and holds no run"),
    ("finetune", ["--data", "MISSING", *FINE_TUNED], "no such folder: MISSING"),
    ("finetune", ["--data", "TEXT", *FINE_TUNED], "TEXT is a file, not a segmentation folder"),
    ("finetune", ["--data", "coco:MISSING", *FINE_TUNED], "MISSING"),
    ("finetune", ["--data", "koko:MISSING", *FINE_TUNED], "unknown kind of segmentation data 'koko'"),
    ("finetune", ["--data", "LABELLED", "--split", "trains", *FINE_TUNED], "is not a segmentation folder"),
    ("finetune", ["--data", "LABELLED", "--val", "val", *FINE_TUNED], "is not a segmentation folder"),
    ("finetune", ["--data", "LABELLED", "--masks", "truth", *FINE_TUNED], "--masks truth: no such folder"),
    ("finetune", ["--data", "LABELLED", "--mask-suffix", "_x", *FINE_TUNED], "no image has a mask"),
    ("finetune", ["--data", "LABELLED", "--model", "MISSING", *OUT], "no backbone 'MISSING'"),
    ("finetune", ["--data", "LABELLED", "--model", "TEXT", *OUT], "TEXT is truncated or not a checkpoint"),
    ("finetune", ["--data", "LABELLED", "--model", "unip_tiny", "--out", "TEXT"], "TEXT is a file"),
    ("evaluate", ["MISSING", "LABELLED", *OUT], "MISSING does not exist"),
    ("evaluate", ["EMPTY", "LABELLED", *OUT], "EMPTY holds no model"),
    ("evaluate", ["BACKBONE", "LABELLED", *OUT], "BACKBONE is not a segmentation model"),
    ("evaluate", ["WEIGHTLESS", "LABELLED", *OUT], "cannot read WEIGHTLESS/model.safetensors"),
    ("evaluate", ["MODEL", "MISSING", *OUT], "no such folder: MISSING"),
    ("evaluate", ["MODEL", "LABELLED", "--split", "val", *OUT], "is not a segmentation folder"),
    ("evaluate", ["MODEL", "LABELLED", "--split", "", "--images", "ir", *OUT], "--images ir: no such folder"),
    ("evaluate", ["MODEL", "LABELLED", "--out", "TEXT"], "TEXT is a file"),
    ("evaluate", ["MODEL", "LABELLED", "--reference", "MODEL", *OUT], "reference is for exported files, and MODEL"),
    ("evaluate", ["MISSING/m.onnx", "LABELLED", *OUT], "cannot read MISSING/m.onnx"),
    ("evaluate", ["m.onnx", "LABELLED", "--calibrate", *OUT], "cannot read m.onnx"),
    ("evaluate", ["unip-aerial-tiny", "LABELLED", "--calibrate", *OUT], "is part of the package"),
    ("predict", ["MISSING", "FRAMES", *OUT], "MISSING does not exist"),
    ("predict", ["TEXT", "FRAMES", *OUT], "TEXT holds no model"),
    ("predict", ["MODEL", "MISSING", *OUT], "no such folder or image: MISSING"),
    ("predict", ["MODEL", "TEXT", *OUT], "TEXT is not an image file by its name"),
    ("predict", ["MODEL", "EMPTY", *OUT], "no images in EMPTY"),
    ("predict", ["MODEL", "FRAMES", "--out", "TEXT"], "TEXT is a file"),
    ("export", ["MISSING", *OUT], "MISSING does not exist"),
    ("export", ["BACKBONE", *OUT], "BACKBONE is not a segmentation model"),
    ("export", ["MODEL", "--golden", "MISSING", *OUT], "no such folder or image: MISSING"),
    ("export", ["MODEL", "--data", "MISSING", *OUT], "no such folder: MISSING"),
    ("export", ["MODEL", "--precision", "bf16", *OUT], "bf16 cannot be exported to onnx"),
    ("export", ["MODEL", "--out", "TEXT"], "TEXT is a file"),
    ("models", ["MISSING"], "no model 'MISSING'"),
    ("models", ["EMPTY"], "EMPTY holds no model"),
    ("models", ["mae-large", "--commercial"], "mae-large itself"),
    ("predict", ["unip-ir-tiny", "FRAMES", *OUT], "unip-ir-tiny is a backbone"),
    ("bench", ["MISSING", *OUT], "cannot read MISSING"),
    ("bench", ["TEXT", *OUT], "TEXT"),
    ("bench", ["SUITE", *OUT], "--data frames=FOLDER"),
    ("bench", ["SUITE", "--data", "frames=MISSING", "--weights", "EMPTY", *OUT], "MISSING, for 1 cells"),
    ("bench", ["SUITE", "--data", "frame=LABELLED", *OUT], "Did you mean 'frames'?"),
    ("bench", ["SUITE", "--data", "frames=LABELLED", "--weights", "MISSING", *OUT], "MISSING"),
    ("bench", ["SUITE", "--data", "frames=LABELLED", "--out", "TEXT"], "TEXT is a file"),
    ("demo", ["--out", "TEXT"], "TEXT is a file"),
    ("data build", ["MISSING", *OUT], "no such folder or image: MISSING"),
    ("data build", ["MISSING.yaml", *OUT], "cannot read MISSING.yaml"),
    ("data build", ["RECIPE.yaml", *OUT], "MISSING"),
    ("data build", ["TEXT", *OUT], "TEXT is not an image file by its name"),
    ("data build", ["FRAMES", "--out", "TEXT"], "TEXT is a file"),
    ("data check", ["MISSING", *OUT], "no such folder or image: MISSING"),
    ("data check", ["EMPTY", *OUT], "no images in EMPTY"),
    ("data check", ["FRAMES", "--out", "TEXT"], "TEXT is a file"),
    ("data dedup", ["MISSING", *OUT], "no such folder or image: MISSING"),
    ("data dedup", ["FRAMES", "--model", "MISSING", *OUT], "no backbone 'MISSING'"),
    ("data pack", ["MISSING.parquet", "OUT"], "no such manifest: MISSING.parquet"),
    ("data stats", ["MISSING"], "no such folder or image: MISSING"),
    ("data stats", ["--data", "MISSING"], "no such folder: MISSING"),
    ("data stats", ["--data", "LABELLED", "--splits", "val"], "is not a segmentation folder"),
    ("data split", ["--data", "MISSING", *OUT], "no such folder: MISSING"),
    ("data split", ["--data", "LABELLED", "--splits", "val", *OUT], "is not a segmentation folder"),
    ("data scenes", ["--out", "TEXT"], "TEXT is a file"),
    ("data thermal-sdk", ["EMPTY"], "in EMPTY"),
]
PATH_NAMES = [f"{verb} {' '.join(words)}" for verb, words, _ in PATHS]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a file or folder for each word in capitals but MISSING and OUT."""
    root = tmp_path_factory.mktemp("instant")
    frame, mask = Image.fromarray(np.full((32, 40), 90, np.uint8)), Image.fromarray(np.zeros((32, 40), np.uint8))
    for folder in ("FRAMES", "LABELLED/train/images", "LABELLED/test/images", "TRAIN/train/images", "EMPTY"):
        (root / folder).mkdir(parents=True)
        if folder != "EMPTY":
            frame.save(root / folder / "0.png")
        if folder.endswith("images"):
            (root / folder).with_name("masks").mkdir()
            mask.save((root / folder).with_name("masks") / "0.png")
    for folder in ("LABELLED", "TRAIN"):
        (root / folder / "classes.json").write_text('{"names": ["background", "hot"]}')
    for folder, kind in (
        ("MODEL", SEGMENTER_FORMAT),
        ("WEIGHTLESS", SEGMENTER_FORMAT),
        ("BACKBONE", BACKBONE_FORMAT),
        ("OTHER", "other"),
    ):
        (root / folder).mkdir()
        (root / folder / "config.json").write_text(json.dumps({"format": kind, "spec": {}}))
        if folder != "WEIGHTLESS":
            (root / folder / "model.safetensors").write_bytes(b"")
    frame.save(root / "FRAME", format="PNG")
    (root / "TEXT").write_text("nothing of use")
    (root / "CUT").write_bytes((1000).to_bytes(8, "little") + b'{"a"')  # the beginning of a safetensors file
    (root / "RECIPE.yaml").write_text("sources: [{folder: MISSING}]")
    suite = {
        "inits": {"a": "{weights}/a"},
        "datasets": {"frames": "{frames}"},
        "protocols": {"knn": {"kind": "knn"}},
        "seeds": [0],
    }
    (root / "SUITE").write_text(yaml.safe_dump(suite))
    return root


def put(word: str, place: Path) -> str:
    """Put the places into a word."""
    for name in ("MISSING", "OUT", *(path.name.removesuffix(".yaml") for path in place.iterdir())):
        word = word.replace(name, str(place / name)) if str(place) not in word else word
    return word


@pytest.fixture(scope="module")
def path_answers(place) -> dict[str, Answer]:
    calls = [[*verb.split(), *(put(word, place) for word in words)] for verb, words, _ in PATHS]
    before = sorted(place.rglob("*"))
    answers = dict(zip(PATH_NAMES, ask(SHELL, SLOW, calls), strict=True))
    assert sorted(place.rglob("*")) == before  # nothing was written
    return answers


@pytest.mark.parametrize(("name", "message"), [(name, row[2]) for name, row in zip(PATH_NAMES, PATHS, strict=True)])
def test_paths(path_answers, place, name, message):
    answer = path_answers[name]
    assert (answer.code, answer.imported) == (2, []), answer.error
    assert answer.error.startswith("error: ")
    assert message in answer.error.replace(f"{place}/", "")


# Python -----------------------------------------------------------------------------------------------------------

MISSING = "/no/such/place"
CALLS: dict[str, dict[str, Any]] = {
    "doctor": {"folder": MISSING, "out": "OUT"},
    "analyze": {"models": ["unip_tiny"], "images": [MISSING]},
    "pretrain": {"teacher": MISSING, "data": ["FRAMES"], "out": "OUT"},
    "finetune": {"model": MISSING, "data": "LABELLED", "out": "OUT"},
    "evaluate": {"model": "MODEL", "data": MISSING, "out": "OUT"},
    "predict": {"model": "MODEL", "images": [MISSING]},
    "export": {"model": MISSING, "out": "OUT"},
    "models": {"model": MISSING},
    "bench": {"suite": MISSING, "out": "OUT"},
    "demo": {"out": "TEXT"},
    "data build": {"sources": [MISSING], "out": "OUT"},
    "data check": {"sources": [MISSING], "out": "OUT"},
    "data dedup": {"sources": ["FRAMES"], "out": "OUT", "model": MISSING},
    "data pack": {"manifest": MISSING, "out": "OUT"},
    "data stats": {"sources": [MISSING]},
    "data split": {"data": MISSING, "out": "OUT"},
    "data scenes": {"out": "TEXT"},
    "data thermal-sdk": {"source": MISSING},
}


def test_python_calls(place):
    """The verbs of the package and of `unip.data`."""
    assert list(CALLS) == VERB_NAMES
    functions = [("unip", name) for name in VERBS] + [("unip.data", name) for name in DATA_VERBS]

    def filled(value: Any) -> Any:
        return [filled(item) for item in value] if isinstance(value, list) else put(value, place)

    calls = [
        (*function, {key: filled(value) for key, value in settings.items()})
        for function, settings in zip(functions, CALLS.values(), strict=True)
    ]
    for name, answer in zip(CALLS, ask(PYTHON, SLOW, calls), strict=True):
        assert (answer.code, answer.imported) == (2, []), f"{name}: {answer.error}"
        assert MISSING in answer.error or "TEXT is a file" in answer.error, f"{name}: {answer.error}"
