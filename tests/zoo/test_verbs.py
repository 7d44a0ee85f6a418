"""`unip models`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import unip
from unip.errors import UnipError
from unip.zoo.catalogue import catalogue
from unip.zoo.verbs import table_of


def test_the_list_holds_every_model() -> None:
    listed = unip.models()
    assert listed is not None
    assert [one.name for one in listed.models] == list(catalogue())


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_cell_of_the_list_is_cut_in_a_terminal(width: int) -> None:
    listed = unip.models()
    assert listed is not None
    console = Console(file=io.StringIO(), width=width)
    console.print(table_of(list(listed.models)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\u2026" not in text and all(name in text for name in catalogue())


def test_commercial_leaves_out_what_is_restricted() -> None:
    listed = unip.models(commercial=True)
    assert listed is not None
    names = {one.name for one in listed.models}
    assert {"unip-ir-tiny", "unip-aerial-tiny", "deit-tiny"} <= names
    assert not names & {"mae-large", "dinov3-small", "anythermal", "unip-paper-tiny-mae-l"}


@pytest.mark.parametrize(("name", "licence"), [("mae-large", "CC-BY-NC-4.0"), ("dinov3-base", "DINOv3 License")])
def test_commercial_refuses_a_model_by_name(name: str, licence: str) -> None:
    assert unip.models(model=name) is not None
    with pytest.raises(
        UnipError, match=f"commercial use of {name} may not be allowed, because of {name} itself"
    ) as error:
        unip.models(model=name, commercial=True)
    assert licence in error.value.what


def test_a_shipped_model_shows_all_ancestors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "unip")
    (found,) = unip.models(model="unip-aerial-tiny", commercial=True).models
    assert found.lineage is not None
    assert "through unip-ir-tiny" in caplog.text and "CC-BY-4.0" in caplog.text and "sha256" in caplog.text


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    lineage = {"ancestors": [{"role": "teacher", "name": "mae-large", "licence": "CC-BY-NC-4.0"}]}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"lineage": lineage}))
    (found,) = unip.models(model=tmp_path).models
    assert found.entry is None and found.lineage.ancestors[0].name == "mae-large"
    with pytest.raises(UnipError, match=r"because of mae-large \(CC-BY-NC-4\.0\)"):
        unip.models(model=tmp_path, commercial=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(UnipError, match="does not tell what it was made from"):
        unip.models(model=tmp_path, commercial=True)


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UnipError, match="no model 'unip-ir-tny'") as error:
        unip.models(model="unip-ir-tny")
    assert "unip-ir-tiny" in error.value.fix
    with pytest.raises(UnipError, match="holds no model"):
        unip.models(model=tmp_path)
    assert unip.models(model="unip-ir-tiny", dry_run=True) is None
