"""Small models, images and a call of every verb that writes: what kills.py and full_disk.py try, and how they compare.

Everything is made from seeds, in one folder. A call is a recipe, so that it can be run by hand too:
``cd FOLDER && unip VERB --config THINGS/VERB.yaml``. Trials of export need the extra ``onnx``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

SOURCES = Path(__file__).parents[1] / "src"
TOKEN = "UNIP_TRIAL"
NOT_TRIED = {
    "models": "writes nothing",
    "data thermal-sdk": "writes into the Python environment",
}
TRACEBACK = "Traceback (most recent call last)"
HIDDEN = ".unip"
SIZE = (48, 64)  # pixels, height and width
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}


@dataclass(frozen=True)
class Things:
    """Where the inputs are, and how much there is.

    Attributes:
        root: The folder.
        frames: Images without labels.
        steps: Of a training.
    """

    root: Path
    frames: int
    steps: int

    def make(self) -> None:
        """Make what is not there yet."""
        if (self.root / "made").exists():
            return
        import torch

        from unip.data.synthetic.config import ScenesConfig
        from unip.data.synthetic.files import write_scenes
        from unip.vit.architecture import BackboneSpec
        from unip.vit.export import save_backbone
        from unip.vit.spec import build_backbone

        self.root.mkdir(parents=True, exist_ok=True)
        spec = BackboneSpec(arguments=VIT)
        for seed, name in enumerate("ab"):
            torch.manual_seed(seed)
            place = self.root / "weights" / name
            if not place.exists():
                save_backbone(build_backbone(spec), spec, place, mean=[0.4] * 3, std=[0.2] * 3, input_size=32, info={})
        write_scenes(ScenesConfig.make(out=self.root / "scenes", count=24, size=SIZE, splits=(8, 8, 8), workers=1))
        rng = np.random.default_rng(0)
        (self.root / "frames").mkdir(exist_ok=True)
        for number in range(self.frames):
            Image.fromarray(rng.integers(0, 255, (32, 40), np.uint8)).save(self.root / f"frames/{number:05}.png")
        for verb, settings in self._settings().items():
            (self.root / f"{recipe_name(verb)}.yaml").write_text(yaml.safe_dump(settings))
        (self.root / "suite.yaml").write_text(yaml.safe_dump(self._suite()))
        for verb, place in (("data build", "built"), ("finetune", "run")):
            if not (self.root / place).exists():
                words = [*verb.split(), "--config", str(self.root / f"{recipe_name(verb)}.yaml"), "--out", place]
                done = subprocess.run(command(words), cwd=self.root, env=environment("make"), capture_output=True)
                assert done.returncode == 0, done.stderr.decode()
        (self.root / "made").touch()

    def words(self, verb: str) -> list[str]:
        """Return the words of a call that writes to ``out``, or below it."""
        place = "out/stats.json" if verb == "data stats" else "out"
        return [*verb.split(), "--config", str(self.root / f"{recipe_name(verb)}.yaml"), "--out", place]

    def _settings(self) -> dict[str, dict[str, Any]]:
        root, frames, scenes = str(self.root), f"infrared={self.root / 'frames'}", str(self.root / "scenes")
        vit, run = f"{root}/weights/a", f"{root}/run/model"
        training = {"steps": self.steps, "batch_size": 2, "checkpoint_every": 5, "log_every": 1, "workers": 1}
        training |= {"device": "cpu", "compile": False}
        finetune = {"model": vit, "data": scenes, "val": "val", "decoder": "linear", "mode": "full", "recipe": "paper"}
        finetune |= {"crop": 32, "base": [64, 48], "eval_every": 7}
        return {
            "pretrain": {
                **training,
                **{"teacher": vit, "teacher_layer": 2, "data": [frames], "student": "unip_micro", "size": 32},
                "picture_every": 10,
            },
            "finetune": {**training, **finetune},
            "data build": {"sources": [frames], "workers": 1},
            "data pack": {"manifest": f"{root}/built/manifest.parquet", "workers": 1, "shard_mb": 1},
            "data dedup": {"sources": [frames], "workers": 1},
            "predict": {"model": run, "images": [frames.partition("=")[2]], "device": "cpu", "workers": 1},
            "evaluate": {
                **{"model": run, "data": scenes, "device": "cpu", "workers": 1},
                "corruption": ["fog", "dead_pixels", "stripes", "defocus", "rain"],
            },
            "export": {"model": run, "data": scenes, "max_images": 2},
            "bench": {
                **{"suite": f"{root}/suite.yaml", "data": [f"scenes={scenes}", f"frames={root}/frames"]},
                **{"weights": f"{root}/weights", "device": "cpu"},
            },
            "doctor": {"folder": f"{root}/frames"},
            "analyze": {"models": [vit], "images": [f"{root}/frames"], "max_images": 4, "explorer": 1, "device": "cpu"},
            "data check": {"sources": [frames], "data": scenes, "workers": 1},
            "data stats": {"data": scenes},
            "data split": {"data": f"{scenes}/train", "copy_images": True, "workers": 1},
            "data scenes": {"count": 24, "size": list(SIZE), "splits": [8, 8, 8], "workers": 2},
            "demo": {
                **{"scenes": [8, 4], "distil_steps": 2, "finetune_steps": 2, "label_budget": 4, "seeds": [0]},
            },
        }

    def _suite(self) -> dict[str, Any]:
        settings = {"steps": self.steps, "batch_size": 2, "checkpoint_every": 5, "crop": 32, "base": [64, 32]}
        settings |= {"lr": 1e-3, "compile": False, "workers": 1}
        pretrain = {"teacher": "{weights}/a", "teacher_layer": 2, "student": "unip_micro", "size": 32}
        pretrain |= {"data": "infrared={frames}", "steps": self.steps, "checkpoint_every": 5, "batch_size": 2}
        return {
            "title": "Small",
            "pretrain": {"mini": {**pretrain, "picture_every": 0, "workers": 1}},
            "inits": {"a": "{weights}/a", "student": "pretrain:mini"},
            "datasets": {"scenes": {"data": "{scenes}", "val": "val"}},
            "protocols": {
                "fine-tuned": {"settings": {**settings, "decoder": "light", "channels": 8}},
                "knn": {"kind": "knn", "settings": {"short_side": 32, "k": 5}},
            },
            "seeds": [0],
            "corruptions": ["fog:1"],
            "speed_batch": 1,
        }


def verbs() -> list[str]:
    """Return all verbs but those of NOT_TRIED, by the words of the command line."""
    from unip.verbs import DATA_VERBS, VERBS

    names = [*VERBS, *(f"data {name.replace('_', '-')}" for name in DATA_VERBS)]
    return [name for name in names if name not in NOT_TRIED]


def recipe_name(verb: str) -> str:
    """Return the name of a verb's recipe."""
    return verb.replace(" ", "-")


# Processes -----------------------------------------------------------------------------------------------------------


def command(words: list[str]) -> list[str]:
    """Return the command line of a call."""
    return [sys.executable, "-m", "unip", *words]


def environment(token: str) -> dict[str, str]:
    """Return the environment of a call, by which its processes are found."""
    path = os.pathsep.join([str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])])
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {**os.environ, **threads, "PYTHONPATH": path, TOKEN: token}


def start(words: list[str], folder: Path, token: str, name: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Start a call in a folder; what it prints goes to files there, or stdout to a descriptor."""
    with open(folder / f"{name}.out", "wb") as out, open(folder / f"{name}.err", "wb") as err:
        return subprocess.Popen(
            command(words),
            cwd=folder,
            env=environment(token),
            stdin=subprocess.DEVNULL,
            stdout=out if stdout is None else stdout,
            stderr=err,
            start_new_session=True,
        )


def living(token: str) -> list[int]:
    """Return the processes that a call has started and that are still there."""
    found, wanted = [], f"{TOKEN}={token}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:  # it has ended, or is another user's
            continue
    return found


def tracebacks(folder: Path) -> list[str]:
    """Return the last traceback of each call in a folder that has printed any, with what came before it."""
    texts = [(file.stem, file.read_text(errors="replace")) for file in sorted(folder.glob("*.err"))]
    places = [(name, text, text.rfind(TRACEBACK)) for name, text in texts]
    return [f"traceback of {name}: {text[max(0, at - 300) :][:3000]}" for name, text, at in places if at >= 0]


# Results -------------------------------------------------------------------------------------------------------------

MEASURED = re.compile(r"seconds|minutes|per_second|feed_wait|speed|modified|_ms$|memory_bytes")
A_TIME = 10**18  # nanoseconds since 1970
#: What may differ: what the machine took (the pages of a bench show what results.parquet holds), and the way to it.
LEFT_OUT = re.compile(
    r"(^|/)(environment\.json|log\.txt|checkpoints/|tensorboard/|cost\.png|costs/)|^(report\.html|tables\.(md|tex))$"
)


def differences(wanted: Path, found: Path) -> list[str]:
    """Return the files that differ between two results, by their bytes or, where they hold measurements, by values."""
    left, right = ({name: file for name, file in files(root)} for root in (wanted, found))
    lines = [f"{name} is missing" for name in left if name not in right]
    lines += [f"{name} is there" for name in right if name not in left]
    return lines + [f"{name} differs" for name in left if name in right and not same(left[name], right[name])]


def files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a result that are compared."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if HIDDEN not in path.parts and path.is_file() and not LEFT_OUT.search(name):
            yield name, path


def same(left: Path, right: Path) -> bool:
    """Say whether two files have the same content, but for measurements."""
    if left.read_bytes() == right.read_bytes():
        return True
    read = READERS.get(left.suffix)
    return read is not None and read(left) == read(right)


def read_json_lines(path: Path) -> Any:
    """Return the records of a file of lines."""
    return [without_measured(json.loads(line)) for line in path.read_text().splitlines()]


def read_json(path: Path) -> Any:
    """Return a JSON file without what is measured."""
    return without_measured(json.loads(path.read_text()))


def without_measured(value: Any) -> Any:
    """Return a JSON value without what is measured."""
    if isinstance(value, bytes):  # a path
        return value.rpartition(b"/out/")[2]
    if isinstance(value, int) and value > A_TIME:
        return "a time"
    if isinstance(value, dict):
        return {key: without_measured(inner) for key, inner in value.items() if not MEASURED.search(key)}
    return [without_measured(inner) for inner in value] if isinstance(value, list) else value


def read_table(path: Path) -> Any:
    """Return the columns of a Parquet file that are not measured."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return without_measured(table.to_pylist())


def read_page(path: Path) -> Any:
    """Return a page or table without numbers that are measured: their cells, and times."""
    text = re.sub(r"\d+(\.\d+)? (s|ms|seconds|minutes|images/s|samples/s)\b", "TIME", path.read_text())
    return re.sub(r"data:image/[^\"]*", "PICTURE", text)


READERS: dict[str, Callable[[Path], Any]] = {
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".parquet": read_table,
    ".html": read_page,
    ".md": read_page,
    ".tex": read_page,
}


def wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Wait for the end of a call; None where it does not come."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def is_whole(code: int | None, said: str) -> bool:
    """Say whether a call found its own result, which it replaces only if it is told to."""
    return code == 2 and "--overwrite to replace it" in said


def kill_all(token: str) -> None:
    """End what a call has left."""
    for pid in living(token):
        try:
            os.kill(pid, 9)
        except OSError:
            continue


def until(condition: Callable[[], bool], seconds: float) -> float | None:
    """Return after how many seconds a condition held; None where it did not."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            return None
        time.sleep(0.02)
    return time.monotonic() - begun
