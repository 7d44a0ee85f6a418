"""Values from JSON and YAML that others may have written: the one place where such text is parsed.

What is refused here, no reader has to think of: text that is not UTF-8 or has half a character, more brackets within
each other than any file needs, NaN and infinity, whole numbers beyond 64 bits, a key that a mapping has twice, and YAML
whose aliases multiply or contain themselves. A *kind*, which is any type that pydantic knows, then says which values a
file must have. Files are opened by :mod:`unip.files`.
"""

from __future__ import annotations

import functools
import json
import math
import reprlib
from typing import TYPE_CHECKING, Any, Never, TypeVar, overload

from unip.errors import UnipError

if TYPE_CHECKING:
    import yaml
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

MAX_DEPTH = 64  # mappings and lists within each other; the files that unip reads have less than 10
MAX_YAML_NODES = 100_000  # with what aliases repeat
SHOWN = 3  # problems that a message names
BOM = b"\xef\xbb\xbf"
CORRECT = "Correct the file, or delete it if unip can write it again."

_PLAIN_TAGS = ("null", "bool", "int", "float", "str", "seq", "map", "merge")  # those that JSON has too, and <<
_show = reprlib.Repr()
_show.maxstring = _show.maxother = 60


class DocumentError(UnipError):
    """Text that is not what it should be."""


def decode(content: bytes, place: str) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises:
        DocumentError: It is not UTF-8.
    """
    try:
        return content.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"{place} is not UTF-8 text: byte {content[error.start]:#04x} in line {line}"
        raise DocumentError(what, "Save it as UTF-8.") from None


@overload
def parse_json(content: bytes | str, place: str, *, file_names: bool = False, fix: str = CORRECT) -> Any: ...
@overload
def parse_json(
    content: bytes | str, place: str, kind: type[T], *, file_names: bool = False, fix: str = CORRECT
) -> T: ...
def parse_json(
    content: bytes | str, place: str, kind: Any = None, *, file_names: bool = False, fix: str = CORRECT
) -> Any:
    """Parse JSON.

    Args:
        content: The text, or its bytes in UTF-8.
        place: Where it is from, for messages.
        kind: What it must hold, see :func:`fit`; left out, anything.
        file_names: Texts may be names of files with bytes that are not UTF-8, as Python decodes them.
        fix: What to do if it does not.

    Returns:
        Its value, of this kind.

    Raises:
        DocumentError: It is not JSON, or not of this kind.
    """
    text = decode(content, place) if isinstance(content, bytes) else content
    try:
        value = _DECODER.decode(text)
        _check_values(value, "\\ud" in text or "\\uD" in text, "surrogateescape" if file_names else "strict")
    except RecursionError:
        raise DocumentError(f"{place} is not valid JSON here: {_DEPTH}", fix) from None
    except ValueError as error:
        why = "a number has too many digits" if "digits" in str(error) else error
        raise DocumentError(f"{place} is not valid JSON: {why}", fix) from None
    return value if kind is None else fit(value, kind, place, fix)


def try_json(content: bytes | str, kind: type[T], *, file_names: bool = True) -> T | None:
    """Parse JSON that a kill may have cut, or someone may have changed; None if it is not of this kind."""
    try:
        return parse_json(content, "text", kind, file_names=file_names)
    except UnipError:
        return None


def try_fit(value: Any, kind: type[T]) -> T | None:
    """Return a value as a kind; None if it is not of this kind."""
    try:
        return fit(value, kind, "value")
    except UnipError:
        return None


def parse_yaml(content: bytes, place: str, *, text_keys: bool = True) -> Any:
    """Parse YAML that holds one document of the types that JSON has; dates are text.

    Args:
        content: The bytes of the text.
        place: Where it is from, for messages.
        text_keys: Refuse keys that are no text.

    Raises:
        DocumentError: It is not such YAML.
    """
    import yaml  # here: most calls have no use for it

    text = decode(content, place)
    try:
        loader = _yaml_loader()(text)
        loader.name = place  # in messages
        node = loader.get_single_node()
        if node is None:
            return None
        _Nodes(text_keys).measure(node)
        value = loader.construct_document(node)
        _check_values(value, "\\ud" in text or "\\uD" in text, "strict")
    except RecursionError:
        raise DocumentError(f"{place} is not valid YAML here: {_DEPTH}", "Correct the file.") from None
    except (yaml.YAMLError, ValueError, KeyError, IndexError) as error:  # the last two of tags such as !!bool
        why = "a number has too many digits" if "digits" in str(error) else error
        raise DocumentError(f"{place} is not valid YAML: {why}", "Correct the file.") from None
    return value


def fit(value: Any, kind: type[T], place: str, fix: str = CORRECT) -> T:
    """Return a value as a kind: a pydantic model, a dataclass, a TypedDict, or a type such as ``dict[str, int]``.

    Args:
        value: What was parsed.
        kind: Any type that pydantic knows.
        place: Where it is from, for messages.
        fix: What to do if it is not of this kind.

    Raises:
        DocumentError: It is not; the message names the keys down to the first values that do not fit.
    """
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(value)  # type: ignore[arg-type,no-any-return]
    except ValidationError as error:
        raise DocumentError(f"{place}: {describe_misfit(error, value)}", fix) from None
    except UnipError as error:
        raise DocumentError(f"{place}: {error.what}", error.fix or fix) from None


def describe_misfit(error: ValidationError, value: Any) -> str:
    """Say where a document is not of its kind, and why: the first few problems."""
    seen: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        missing = problem["type"] in ("missing", "missing_argument", "unexpected_keyword_argument")
        loc = problem["loc"][:-1] if missing else problem["loc"]
        text = problem["msg"].removeprefix("Value error, ")
        text = f"{text[:1].lower()}{text[1:]}"
        if missing:
            gone = problem["type"] != "unexpected_keyword_argument"
            last = problem["loc"][-1]
            text = "too few values" if isinstance(last, int) else f"{'no' if gone else 'unknown'} key {last!r}"
        elif loc:
            text += f", not {_show.repr(problem['input'])}"
        seen.setdefault(_keys(loc, value), []).append(text)
    lines = [f"{where}{'; or '.join(dict.fromkeys(texts))}" for where, texts in seen.items()]
    more = [f"and {len(lines) - SHOWN} more such problems"] if len(lines) > SHOWN else []
    return "; ".join([*lines[:SHOWN], *more])


def _keys(loc: tuple[int | str, ...], value: Any) -> str:
    """Name a place by its keys: those of pydantic, less the names of the kinds that it tried."""
    found = ""
    for part in loc:
        try:
            value = value[part]
        except (TypeError, KeyError, IndexError):
            continue
        found += f"[{part}]" if isinstance(part, int) else f".{part}"
    return f"{found.removeprefix('.')}: " if found else ""


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


_DEPTH = f"more than {MAX_DEPTH} lists or mappings within each other"


def _check_values(value: Any, escapes: bool, errors: str) -> None:
    """Refuse depth, infinite and endless numbers; and halves of characters, which only escapes can write."""
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH + 2):
        if not level:
            return
        below: list[Any] = []
        for each in level:
            if escapes:
                _check_texts(each, errors)
            for leaf in each.values() if type(each) is dict else each:
                kind = type(leaf)
                if kind is dict or kind is list:
                    below.append(leaf)
                elif kind is float and not math.isfinite(leaf):
                    raise ValueError(f"{leaf} is no finite number")
                elif kind is int and not -(2**63) <= leaf < 2**64:
                    raise ValueError("a whole number is beyond 64 bits")
        level = below
    raise RecursionError


def _check_texts(values: dict[str, Any] | list[Any], errors: str) -> None:
    for text in (*values, *values.values()) if isinstance(values, dict) else values:
        try:
            if isinstance(text, str):
                text.encode("utf-8", errors)
        except UnicodeEncodeError as error:
            raise ValueError(f"half a character, \\u{ord(text[error.start]):04x}") from None


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} appears twice in one mapping")
    return found


def _constant(name: str) -> Never:
    raise ValueError(f"{name} is no finite number")


_DECODER = json.JSONDecoder(object_pairs_hook=_mapping, parse_constant=_constant)


class _Nodes:
    """What a YAML document would be with every alias written out, measured without doing so."""

    def __init__(self, text_keys: bool) -> None:
        self.text_keys = text_keys
        self.known: dict[int, tuple[int, int] | None] = {}  # size and height; None: not yet complete

    def measure(self, node: yaml.Node, depth: int = 1) -> tuple[int, int]:
        """Return nodes and levels; refuse too many of either, and keys that are twice there or no text."""
        import yaml

        line = node.start_mark.line + 1
        if id(node) in self.known:
            measured = self.known[id(node)]
            if measured is None:
                raise ValueError(f"the alias in line {line} contains itself")
            return measured
        self.known[id(node)] = None
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            children = [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        size, height = 1, 1
        if depth > MAX_DEPTH:
            raise RecursionError
        for child in children:
            nodes, levels = self.measure(child, depth + 1)
            size, height = size + nodes, max(height, levels + 1)
        if size > MAX_YAML_NODES:
            raise ValueError(f"more than {MAX_YAML_NODES:,} values, with what aliases repeat")
        if height > MAX_DEPTH:
            raise RecursionError
        self.known[id(node)] = size, height
        return size, height

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            tag = key.tag.removeprefix("tag:yaml.org,2002:")
            place = f"in line {key.start_mark.line + 1}"
            if not isinstance(key.value, str):
                raise ValueError(f"a key {place} is a list or mapping")
            if self.text_keys and tag not in ("str", "merge"):
                raise ValueError(f"the key {key.value[:80]} {place} is no text; put it in quotes")
            if (tag, key.value) in seen and tag != "merge":
                raise ValueError(f"the key {key.value[:80]!r} {place} is there twice")
            seen.add((tag, key.value))


@functools.cache
def _yaml_loader() -> type[yaml.SafeLoader]:
    """Return PyYAML's safe loader for the types that JSON has; what looks like a date is text."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] in _PLAIN_TAGS]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.yaml_constructors = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in _PLAIN_TAGS
    }
    return Loader
