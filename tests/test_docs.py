"""The pages agree with the code: option tables, links, and the files and names that ARCHITECTURE.md points to."""

import ast
import re
import string
from pathlib import Path

import pytest

from unip.data.config import DoctorConfig
from unip.data.corruptions import CORRUPTIONS
from unip.data.images.config import ConversionOptions
from unip.deployment.export.config import ExportConfig
from unip.segmentation.config import EvaluateConfig, FinetuneConfig
from unip.suites.config import BenchConfig
from unip.training.config import TrainingConfig

from .test_architecture import FLOORS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])


def options(page: str) -> set[str]:
    text = (DOCS / page).read_text(encoding="utf-8").split("## Options", 1)[-1]
    rows = [line for line in text.splitlines() if line.startswith("| `--")]
    return {name.replace("-", "_") for row in rows for name in re.findall(r"`--([a-z0-9-]+)`", row.split(" | ")[0])}


@pytest.mark.parametrize(
    ("config", "page", "elsewhere"),
    [
        (BenchConfig, "bench.md", ()),
        (DoctorConfig, "doctor.md", ()),
        (EvaluateConfig, "evaluate.md", ()),
        (ExportConfig, "export.md", ()),
        (FinetuneConfig, "finetune.md", (TrainingConfig, ConversionOptions)),
    ],
)
def test_options(config, page, elsewhere):
    found = {name for name in options(page) if not name.startswith("no_")}
    shared = {name for other in elsewhere for name in other.model_fields}
    assert set(config.model_fields) - shared <= found <= set(config.model_fields)


def test_corruptions():
    rows = [line for line in (DOCS / "corruptions.md").read_text(encoding="utf-8").splitlines() if "| `" in line]
    table = {row.split("`")[1]: row.split("|")[-2] for row in rows}
    assert list(table) == list(CORRUPTIONS)
    for name, corruption in CORRUPTIONS.items():
        if name != "polarity":
            shown = [float(number) for number in re.findall(r"[\d.]+", table[name])]
            assert shown == pytest.approx(list(corruption.by_severity)), name


def without_code(text: str) -> str:
    return re.sub(r"^( *)```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    drop = str.maketrans("", "", string.punctuation.replace("-", "").replace("_", ""))
    return {heading.lower().translate(drop).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        place, _, anchor = target.partition("#")
        file = page.parent / place if place else page
        if not target.startswith("https://") and (not file.exists() or (anchor and anchor not in anchors(file))):
            found.append(f"{page.name}: {target}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    assert not broken_links(page)


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "a.md").write_text(
        "# The word's end, 2\n```\n# no heading [x](no-link.md)\n```\n[a](b.md#one) [b](c.md)"
    )
    (tmp_path / "b.md").write_text("# One\n[a](a.md#the-words-end-2) [b](a.md#no-heading) [c](#one) [d](#two)")
    assert broken_links(tmp_path / "a.md") == ["a.md: c.md"]
    assert broken_links(tmp_path / "b.md") == ["b.md: a.md#no-heading", "b.md: #two"]


def names_in(file: Path) -> set[str]:
    """Return what a module defines: its own names and, after a dot, those of its classes."""
    names: set[str] = set()

    def add(nodes: list[ast.stmt], prefix: str) -> None:
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                add(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    add(ast.parse(file.read_text(encoding="utf-8")).body, "")
    return names


def lost_pointers(text: str) -> list[str]:
    """Return the files and names, ``file.py:name``, that a text points to and that are not there."""
    lost = []
    for span in re.findall(r"`([\w/]+(?:\.\w+)?(?::[\w.]+)?)`", text):
        place, _, name = span.partition(":")
        if not ("/" in place or place.endswith((".py", ".md"))) or place.startswith("unip/"):
            continue
        file = next((each for each in (ROOT / "src" / "unip" / place, ROOT / place) if each.exists()), None)
        if file is None or (name and name not in names_in(file)):
            lost.append(span)
    return lost


def test_the_architecture_points_to_what_is_there():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert not lost_pointers(text)
    assert lost_pointers("`data/attic.py` `config.py:Config.attic` `errors.py:UnipError` `config.py:attic`") == [
        "data/attic.py",
        "config.py:Config.attic",
        "config.py:attic",
    ]


def test_the_architecture_has_the_floors():
    table = ARCHITECTURE.read_text(encoding="utf-8").split("| floor | rooms |")[1].split("\n\n")[0]
    rows = [row.split(" | ")[1] for row in table.splitlines()[2:]]
    assert [tuple(re.findall(r"`([\w/]+)`", row)) for row in rows] == list(FLOORS)
