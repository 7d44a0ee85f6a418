"""Pages run nothing that a name says: of files, folders, classes, groups, models and suites."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

import unip
from tests.suites.test_tables import NAMES
from tests.test_kept_files import things, undrawn  # noqa: F401
from unip.segmentation.storage import load_segmenter
from unip.suites.tables import ReportTable

TAG, ATTRIBUTE = "<img src=x onerror=alert(1)>", "\" onmouseover='alert(1)' x=\""
SCRIPT = "</script></svg></style><script>alert(1)</script><!--"
FILE = f"{TAG}{ATTRIBUTE}".replace("/", "")  # of a file


class Page(HTMLParser):
    """Counts what a page could run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "base", "form", "link", "meta"):
            self.found[tag] += 1
        for name, value in attrs:
            if name.startswith("on") or "javascript:" in (value or "").lower():
                self.found[f"{tag} {name}"] += 1
            if name in ("src", "href", "xlink:href", "action") and not (value or "").startswith(("data:", "#")):
                self.found[f"{tag} {name}={value}"] += 1


def runs(text: str) -> Counter[str]:
    page = Page()
    page.feed(text)
    page.close()
    return page.found


@pytest.fixture(scope="module")
def renamed(things, tmp_path_factory) -> dict[str, Path]:  # noqa: F811
    """Return labelled frames, a backbone and a model, once with plain names and once with hostile ones."""
    plain, root = Path(things["finetune"]["data"]), tmp_path_factory.mktemp("hostile")
    data = root / FILE
    shutil.copytree(plain, data)
    for file in [*data.rglob("*.png")]:
        file.rename(file.with_name(f"{FILE}{file.name}"))
    (data / "classes.json").write_text(json.dumps({"names": [f"a{SCRIPT}", f"b{TAG}{ATTRIBUTE}"]}))
    shutil.copytree(things["analyze"]["models"][0], root / f"vit{FILE}")
    names = json.loads((data / "classes.json").read_text())["names"]
    shutil.copytree(things["evaluate"]["model"] / "model", root / "model")
    config = json.loads((root / "model/config.json").read_text())
    (root / "model/config.json").write_text(json.dumps(config).replace('["background", "hot"]', json.dumps(names)))
    assert load_segmenter(root / "model").spec.classes.names == tuple(names)
    return {"data": data, "vit": root / f"vit{FILE}", "model": root / "model"}


def doctor(data: Path, vit: Path, model: Path, out: Path) -> None:
    unip.doctor(folder=data / "train/images", out=out)


def check(data: Path, vit: Path, model: Path, out: Path) -> None:
    frame = next((data / "test/images").glob("*.png"))
    frame.with_name(f"broken{frame.name}").write_bytes(b"no image")
    unip.data.check(sources=(str(data / "test/images"),), data=data, out=out)


def evaluate(data: Path, vit: Path, model: Path, out: Path) -> None:
    unip.evaluate(model=model, data=data, split="train", out=out, corruption=("fog",), device="cpu")


def compare(data: Path, vit: Path, model: Path, out: Path) -> None:
    unip.evaluate(model=model, against=model, data=data, split="train", out=out, device="cpu")


def analyze(data: Path, vit: Path, model: Path, out: Path) -> None:
    unip.analyze(models=(str(vit),), images=(str(data / "train/images"),), explorer=1, out=out, device="cpu")


@pytest.mark.parametrize("make", [doctor, check, evaluate, compare, analyze])
def test_pages(make: Callable[..., None], things, renamed, tmp_path):  # noqa: F811
    data = tmp_path / "data"
    shutil.copytree(things["finetune"]["data"], data)
    plain = {"data": data, "vit": Path(things["analyze"]["models"][0]), "model": things["evaluate"]["model"] / "model"}
    make(**plain, out=tmp_path / "plain")
    make(**renamed, out=tmp_path / "hostile")
    pages = sorted((tmp_path / "hostile").rglob("*.html"))
    assert pages
    for page in pages:
        text = page.read_text()
        assert runs(text) == runs((tmp_path / "plain" / page.relative_to(tmp_path / "hostile")).read_text())
        assert "onerror" in text  # the names are there


@pytest.mark.parametrize("name", [TAG, ATTRIBUTE, SCRIPT, *NAMES])
def test_tables_of_a_bench(name):
    table = ReportTable(name, ("init", name), ((name, name),), name)
    assert not runs(table.html())
