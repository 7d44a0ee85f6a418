"""The door that all structured text comes through."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import unip
from unip.documents import MAX_DEPTH, fit, parse_json, parse_yaml, try_fit, try_json
from unip.errors import UnipError
from unip.files import read_json, read_table, read_yaml

OWN = {"documents.py"}
PARSERS = ("json.load", "json.loads", "yaml.load", "yaml.safe_load", "yaml.full_load", "yaml.unsafe_load")
ENDINGS = (".model_validate_json", ".validate_json", ".json_normalize", "csv.DictReader", "csv.reader")
TABLES = {"files.py"}  # the one that reads CSV


def test_nothing_else_parses_json_yaml_or_csv() -> None:
    source = Path(unip.__file__).parent
    found = []
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in ("json", "yaml", "tomllib"):
                found.append(f"{name}: from {node.module}")
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if call == "json.loads" and ast.unparse(node).startswith("json.loads(files("):
                continue  # what is installed with this package
            parses = call in PARSERS or (call.startswith("yaml.") and "load" in call.rpartition(".")[2].lower())
            if (parses and name not in OWN) or (call.endswith(ENDINGS) and name not in TABLES):
                found.append(f"{name}: {call}")
    assert found == []


@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.0


BAD_JSON = {
    "no value": (b"", "Expecting value: line 1 column 1"),
    "cut": (b'{"a": [1, 2', "line 1 column 12"),
    "not UTF-8": (b'{"a":\n"\xff"}', "is not UTF-8 text: byte 0xff in line 2"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "is not UTF-8 text"),
    "NaN": (b"[NaN]", "NaN is no finite number"),
    "infinity": (b"[-Infinity]", "-Infinity is no finite number"),
    "too large a float": (b'{"a": [{"b": 1e999}]}', "inf is no finite number"),
    "beyond 64 bits": (b"[18446744073709551616]", "beyond 64 bits"),
    "many digits": (b"[" + b"9" * 5000 + b"]", "too many digits"),
    "twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' appears twice"),
    "half a character": (b'["\\ud800"]', r"half a character, \\ud800"),
    "half a character as key": (b'{"\\uDC41": 1}', r"half a character, \\udc41"),
    "3,000 brackets": (b"[" * 3000 + b"]" * 3000, f"more than {MAX_DEPTH} lists"),
    "3,000 open brackets": (b"[" * 3000, f"more than {MAX_DEPTH} lists"),
    "deep": (b'{"a":' * 65 + b"1" + b"}" * 65, f"more than {MAX_DEPTH} lists"),
}


@pytest.mark.parametrize("kind", BAD_JSON)
def test_bad_json(tmp_path: Path, kind: str) -> None:
    content, message = BAD_JSON[kind]
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UnipError, match=message) as caught:
        read_json(path)
    assert caught.value.what.startswith(f"{path} is not ")
    assert caught.value.fix
    assert try_json(content, dict[str, Any]) is None


@pytest.mark.parametrize(
    "value", [None, True, -(2**63), 2**64 - 1, 1.5e308, "é\u2028😀", [], {}, {"a": [{"b": [0.1, None, "x"]}]}]
)
def test_good_json_is_what_json_says(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value, indent=1)):
        assert parse_json(b"\xef\xbb\xbf" + text.encode(), "x") == json.loads(text) == value


def test_as_deep_as_allowed() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(text, "x") == json.loads(text)
    assert parse_yaml(text.encode(), "x") == json.loads(text)


def test_names_of_files_may_hold_any_bytes() -> None:
    assert parse_json(b'["\\udcff"]', "x", file_names=True) == ["\udcff"]
    with pytest.raises(UnipError, match="half a character"):
        parse_json(b'["\\ud800"]', "x", file_names=True)


BAD_YAML = {
    "self": (b"a: &a [*a]", "alias in line 1 contains itself"),
    "through others": (b"a: &a {b: &b [1, *a]}", "contains itself"),
    "multiplied": (
        b"a0: &a0 [x]\n"
        + b"".join(b"a%d: &a%d [%b]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 9)),
        "more than 100,000 values",
    ),
    "deep through aliases": (
        b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (i, i, i - 1) for i in range(1, 90)),
        f"more than {MAX_DEPTH} lists",
    ),
    "3,000 brackets": (b"[" * 3000, f"more than {MAX_DEPTH} lists"),
    "3,000 braces": (b"{a: " * 3000, f"more than {MAX_DEPTH} lists"),
    "infinity": (b"lr: .inf", "inf is no finite number"),
    "NaN": (b"lr: [.nan]", "nan is no finite number"),
    "many digits": (b"a: " + b"9" * 5000, "too many digits"),
    "twice": (b"a: 1\nb: 2\na: 3\n", "the key 'a' in line 3 is there twice"),
    "number as key": (b"a: {1: 2}", "the key 1 in line 1 is no text; put it in quotes"),
    "no as key": (b"no: 2", "the key no in line 1 is no text"),
    "list as key": (b"? [1]\n: 2", "a key in line 1 is a list or mapping"),
    "code": (b"a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "bytes": (b"a: !!binary aGk=", "could not determine a constructor"),
    "no bool": (b"a: !!bool maybe", "is not valid YAML"),
    "no number": (b"a: !!int ''", "is not valid YAML"),
    "several": (b"a: 1\n---\nb: 1\n", "expected a single document"),
    "not UTF-8": (b"a: \xff", "is not UTF-8 text: byte 0xff in line 1"),
    "a list": (b"- 1", "must hold `key: value` lines, but holds a list"),
}


@pytest.mark.parametrize("kind", BAD_YAML)
def test_bad_yaml(tmp_path: Path, kind: str) -> None:
    content, message = BAD_YAML[kind]
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UnipError, match=message) as caught:
        read_yaml(path)
    assert str(path) in caught.value.what


def test_good_yaml() -> None:
    text = b"base: &b {lr: 1e-3, steps: 10}\nrun: {<<: *b, steps: 20}\nday: 2020-01-31\nempty:\n"
    assert parse_yaml(text, "x") == {
        "base": {"lr": "1e-3", "steps": 10},
        "run": {"lr": "1e-3", "steps": 20},
        "day": "2020-01-31",
        "empty": None,
    }
    assert parse_yaml(b"{0: a, 1: b}", "x", text_keys=False) == {0: "a", 1: "b"}
    assert parse_yaml(b"", "x") is None


def test_misfits_are_named_by_their_keys() -> None:
    value = {"points": [{"x": 1}, {"x": "one", "y": []}, {"y": 2.0}, 5]}
    with pytest.raises(UnipError) as caught:
        fit(value, dict[str, list[Point]], "x.json", "Correct it.")
    assert caught.value.what == (
        "x.json: points[1].x: input should be a valid integer, unable to parse string as an integer, not 'one'; "
        "points[1].y: input should be a valid number, not []; points[2]: no key 'x'; and 1 more such problems"
    )
    assert try_fit(value, dict[str, list[Point]]) is None
    assert try_fit({"points": [{"x": 1}]}, dict[str, list[Point]]) == {"points": [Point(1)]}


def test_files_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unip.files.MAX_YAML_BYTES", 10)
    (tmp_path / "x.yaml").write_text("a: 1234567890\n")
    with pytest.raises(UnipError, match=r"x\.yaml is larger than"):
        read_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'file', only none"),
        ("a,b\n1,2\n", "has no column 'file', only a, b"),
        ("file,group\n1,2\n3\n", r"x\.csv, line 3: not 2 cells"),
        ("file,group\n1,2,3\n", r"x\.csv, line 2: not 2 cells"),
        ('file,group\n1,"2', r"x\.csv, line 1: not CSV"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UnipError, match=message):
        read_table(tmp_path / "x.csv", ("file",), "")


def test_good_tables(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes('\ufefffile,group\r\n"a,1",é\r\n\r\n'.encode())
    assert read_table(tmp_path / "x.csv", ("file", "group"), "") == [{"file": "a,1", "group": "é"}]
