"""What a model was made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from unip.errors import UnipError
from unip.zoo.lineage import Ancestor, Lineage, data_ancestor, lineage_lines, lineage_record, read_lineage

TEACHER = Ancestor(role="teacher", name="mae", licence="CC-BY-NC-4.0", sha256="ab" * 32)


def test_a_lineage_is_read_as_it_was_written() -> None:
    lineage = Lineage.of([TEACHER, TEACHER, Ancestor(role="data", name="frames")])
    assert [one.name for one in lineage.ancestors] == ["mae", "frames"]
    record = json.loads(json.dumps({"format": "x", **lineage_record(lineage)}))
    assert read_lineage(record, "config.json") == lineage
    assert read_lineage({"format": "x"}, "config.json") is None
    card = "\n".join(lineage_lines(lineage))
    assert "teacher: mae, licence CC-BY-NC-4.0, sha256 abababababab" in card
    assert "training data: frames, licence not stated" in card


@pytest.mark.parametrize("held", [[], "text", {"ancestors": [{"role": "uncle", "name": "x"}]}, {"other": 1}])
def test_a_damaged_lineage_is_refused(held: object) -> None:
    with pytest.raises(UnipError, match=r"config\.json: its lineage cannot be read"):
        read_lineage({"lineage": held}, "config.json")


def test_ancestors_are_inherited_through_each_generation() -> None:
    student = Lineage.of([TEACHER]).inherited("student")
    assert [one.through for one in student] == ["student"]
    assert [one.through for one in Lineage.of(student).inherited("segmenter")] == ["segmenter, student"]


def test_what_stands_against_commercial_use() -> None:
    free = Ancestor(role="init", name="deit", licence="Apache-2.0")
    own_frames = Ancestor(role="data", name="frames")
    unknown_weights = Ancestor(role="init", name="model.pth")
    lineage = Lineage.of([free, own_frames, unknown_weights, TEACHER])
    assert lineage.hindrances() == [unknown_weights, TEACHER]


def test_data_is_described_by_its_card_and_its_files(tmp_path: Path) -> None:
    images = tmp_path / "set" / "train" / "images"
    images.mkdir(parents=True)
    files = [("b.png", 20), ("a.png", 3)]
    plain = data_ancestor("set", images, files)
    assert (plain.name, plain.licence, plain.role) == ("set", None, "data")
    assert plain.sha256 == hashlib.sha256(b"20 b.png\n3 a.png").hexdigest()
    assert data_ancestor("set", images, [("b.png", 21), ("a.png", 3)]).sha256 != plain.sha256
    (tmp_path / "set" / "dataset.json").write_text('{"name": "My set", "licence": "CC-BY-4.0", "source": "here"}')
    told = data_ancestor("set", images, files)
    assert (told.name, told.licence, told.source, told.sha256) == ("My set", "CC-BY-4.0", "here", plain.sha256)
    (tmp_path / "set" / "dataset.json").write_text('{"licence": 4}')
    with pytest.raises(UnipError, match="texts for name, licence and source"):
        data_ancestor("set", images, files)
