"""Changes of files: of the values in them, of their fields and of their bytes. All follow from a random generator."""

from __future__ import annotations

import copy
import json
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

Change = Callable[[bytes, Random], bytes]

# Marks that no serialiser writes, put into the text afterwards
DEEP, DIGITS, TWICE, BAD_TEXT = "@DEEP@", "@DIGITS@", "@TWICE@", "@BYTES@"
WRONG: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 255, 256, 65536, 0.5, -0.0, 1e-320, 1e308, -1e308),
    *(2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**30, 10**400, 1_000_000, 30_000),
    *(float("nan"), float("inf"), -float("inf")),
    *(
        "",
        "0",
        "5",
        "nan",
        "a\0b",
        "\ud800",
        "\udcff",
        "é" * 300,
        "x" * 5000,
        "../../x",
        "/dev/zero",
        "~nosuchuser",
        "no",
    ),
    *([], [[]], {}, {"": 1}, [1] * 1000, [[0, 0]] * 50, {"a": {"b": {"c": []}}}),
    *(DEEP, DIGITS, BAD_TEXT),
]
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def change_json(data: bytes, random: Random) -> bytes:
    """Change one to three values of a JSON text."""
    return _text_of(change_values(json.loads(data), random), random)


def change_lines(data: bytes, random: Random) -> bytes:
    """Change a line of JSON, or the lines."""
    lines = [line for line in data.splitlines() if line]
    if random.random() < 0.3:
        random.shuffle(lines)
        return b"\n".join([*lines, *random.sample(lines, len(lines) // 2)]) + b"\n"
    number = random.randrange(len(lines))
    lines[number] = _text_of(change_values(json.loads(lines[number]), random), random)
    return b"\n".join(lines) + b"\n"


def change_yaml(data: bytes, random: Random) -> bytes:
    """Change one to three values of a YAML text, or add aliases and tags."""
    if random.random() < 0.15:
        bombs = (
            b"bomb: &a [*a]\n",
            b"x0: &x0 [1,1,1,1,1,1,1,1,1]\n"
            + b"".join(b"x%d: &x%d [%b]\n" % (i, i, b",".join([b"*x%d" % (i - 1)] * 9)) for i in range(1, 9)),
            b"code: !!python/object/apply:os.system ['true']\n",
            b"day: 2020-99-99\n",
            b"<<: [1, 2]\n",
            b"? [a, b]\n: 1\n",
            b"--- \n",
        )
        return data + random.choice(bombs)
    changed = change_values(yaml.safe_load(data), random)
    if random.random() < 0.5:
        return _text_of(changed, random).replace(b"NaN", b".nan").replace(b"Infinity", b".inf")
    try:
        text = yaml.safe_dump(changed, sort_keys=False, allow_unicode=random.random() < 0.5)
    except (UnicodeEncodeError, ValueError):
        return _text_of(changed, random)
    return _put_marks(text.encode("utf-8", "surrogatepass"))


def change_words(data: bytes, random: Random) -> bytes:
    """Change words, cells and lines of a text."""
    words = [
        "",
        "-1",
        "nan",
        "inf",
        "1e999",
        "9" * 5000,
        "0x10",
        "x" * 3000,
        "\0",
        "é",
        '"',
        "<",
        "&#0;",
        "1_0",
        "-0",
        ";",
    ]
    lines = data.decode(errors="replace").split("\n")
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        number = random.randrange(len(lines))
        separator = next((each for each in (",", ":", '"', " ") if each in lines[number]), " ")
        cells = lines[number].split(separator)
        place = random.randrange(len(cells))
        action = random.randrange(5)
        if action == 0:
            cells[place] = random.choice(words)
        elif action == 1:
            del cells[place]
        elif action == 2:
            cells.insert(place, random.choice(words))
        elif action == 3:
            lines.insert(number, random.choice(lines))
        else:
            cells[place] = cells[place] * random.choice((2, 50))
        lines[number if action != 3 else number + 1] = separator.join(cells)
    return "\n".join(lines).encode()


def change_values(value: Any, random: Random) -> Any:
    """Return a copy of JSON values with one to three changes."""
    holder = [copy.deepcopy(value)]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        slots = list(_slots(holder))
        where, key = random.choice(slots)
        random.choice(_ACTIONS)(where, key, slots, random)
    return holder[0]


def _slots(value: Any, depth: int = 0) -> Any:
    if depth > 20:
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(items):
        yield value, key
        yield from _slots(each, depth + 1)


def _replace(where: Any, key: Any, slots: Any, random: Random) -> None:
    where[key] = copy.deepcopy(random.choice(WRONG))


def _splice(where: Any, key: Any, slots: Any, random: Random) -> None:
    other, there = random.choice(slots)
    where[key] = copy.deepcopy(other[there])


def _drop(where: Any, key: Any, slots: Any, random: Random) -> None:
    if where is slots[0][0]:
        where[key] = None  # all of the file
    else:
        del where[key]


def _double(where: Any, key: Any, slots: Any, random: Random) -> None:
    if isinstance(where, list):
        where.insert(key, copy.deepcopy(where[key]))
    else:
        where[f"{key}{TWICE}"] = copy.deepcopy(random.choice([where[key], *WRONG]))


def _rename(where: Any, key: Any, slots: Any, random: Random) -> None:
    if isinstance(where, dict):
        where[random.choice(["", "x", "\ud800", "names", "a\0", str(key).upper()])] = where.pop(key)


def _reorder(where: Any, key: Any, slots: Any, random: Random) -> None:
    if isinstance(where, list):
        random.shuffle(where)
    else:
        where[key] = where.pop(key)


def _shift(where: Any, key: Any, slots: Any, random: Random) -> None:
    """Change numbers a little: what is read may still be good, and must be right."""
    for other, there in slots:
        if isinstance(other[there], float) and random.random() < 0.5:
            other[there] += random.uniform(-0.3, 0.3)


def _nest(where: Any, key: Any, slots: Any, random: Random) -> None:
    where[key] = random.choice(([where[key]], {"x": where[key]}, [[where[key]]] * 3))


def _tweak(where: Any, key: Any, slots: Any, random: Random) -> None:
    value = where[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        half = value + 0.5 if abs(value) < 1e300 else value
        where[key] = random.choice((-value, value + 1, value - 1, value * 1_000_000, half, str(value), [value]))
    elif isinstance(value, str):
        where[key] = random.choice((value[:-1], value + "x", value.upper(), value * 100, value[::-1], f" {value}"))
    else:
        _replace(where, key, slots, random)


_ACTIONS = (_replace, _replace, _replace, _splice, _drop, _double, _rename, _nest, _tweak, _tweak, _reorder, _shift)


def _text_of(value: Any, random: Random) -> bytes:
    text = json.dumps(value, ensure_ascii=random.random() < 0.7)
    return _put_marks(text.encode("utf-8", "surrogatepass"))


def _put_marks(text: bytes) -> bytes:
    for mark, instead in ((DEEP, b"[" * 3000 + b"]" * 3000), (DIGITS, b"9" * 5000), (BAD_TEXT, b'"\xff\xfe"')):
        for quote in (b'"', b"'", b""):
            text = text.replace(quote + mark.encode() + quote, instead)
    return text.replace(TWICE.encode(), b"")


def change_bytes(data: bytes, random: Random) -> bytes:
    """Flip, set, cut, insert, delete, repeat and move bytes, one to four times."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        place = random.randrange(len(found) + 1)
        if random.random() < 0.4:
            place = min(place, random.randrange(64))  # headers decide
        size = random.choice((1, 1, 2, 4, 8, 64, 1000))
        random.choice(_BYTE_ACTIONS)(found, place, size, random)
    return bytes(found)


def _flip(found: bytearray, place: int, size: int, random: Random) -> None:
    if place < len(found):
        found[place] ^= 1 << random.randrange(8)


def _set(found: bytearray, place: int, size: int, random: Random) -> None:
    found[place : place + size] = random.randbytes(size)


def _extreme(found: bytearray, place: int, size: int, random: Random) -> None:
    width = random.choice((1, 2, 4, 8))
    order = random.choice(("little", "big"))
    found[place : place + width] = (random.choice(EXTREMES) % 256**width).to_bytes(width, order)


def _cut(found: bytearray, place: int, size: int, random: Random) -> None:
    del found[place:]


def _insert(found: bytearray, place: int, size: int, random: Random) -> None:
    found[place:place] = random.choice((b"\0" * size, b"\xff" * size, random.randbytes(size), b'"', b"{", b"\n"))


def _delete(found: bytearray, place: int, size: int, random: Random) -> None:
    del found[place : place + size]


def _move(found: bytearray, place: int, size: int, random: Random) -> None:
    start = random.randrange(len(found) + 1)
    found[place : place + size] = found[start : start + size]


_BYTE_ACTIONS = (_flip, _flip, _set, _extreme, _extreme, _cut, _insert, _delete, _move)


def change_png(data: bytes, random: Random) -> bytes:
    """Change chunks of a PNG, with checksums that fit."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    number = random.randrange(len(chunks))
    kind, body = chunks[number]
    action = random.randrange(5)
    if action == 0:
        chunks[number] = kind, change_bytes(body, random)
    elif action == 1:
        del chunks[number]
    elif action == 2:
        chunks.insert(random.randrange(len(chunks)), chunks[number])
    elif action == 3:  # the header
        head = bytearray(chunks[0][1])
        head[:8] = struct.pack(">2I", *random.choices((*EXTREMES, 32, 24, 30_000), k=2))
        chunks[0] = chunks[0][0], bytes(head)
    else:  # what unpacks to far more
        chunks[number] = kind, zlib.compress(bytes(random.choice((10, 10_000_000))))
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def change_jpeg(data: bytes, random: Random) -> bytes:
    """Change segments of a JPEG, or the size in its header."""
    segments, place = [], 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        size = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        segments.append(bytearray(data[place : place + size]))
        place += size
    number = random.randrange(len(segments))
    frame = next(each for each in segments if 0xC0 <= each[1] <= 0xC2)
    action = random.randrange(5)
    if action == 0:
        frame[5:9] = struct.pack(">2H", *random.choices((0, 1, 8, 13_000, 65_535, 32), k=2))
    elif action == 1:
        del segments[number]
    elif action == 2:
        segments.insert(random.randrange(len(segments)), segments[number])
    elif action == 3:
        segments[number][4:] = change_bytes(bytes(segments[number][4:]), random)
    else:
        frame[4 if random.random() < 0.5 else 9] = random.randrange(256)  # bits, components
    return data[:2] + b"".join(segments) + data[place:]


def change_tiff(data: bytes, random: Random) -> bytes:
    """Change entries of the first directory of a TIFF."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack(f"{order}I", data[4:8])
    (count,) = struct.unpack(f"{order}H", data[start : start + 2])
    found = bytearray(data)
    for _ in range(random.randint(1, 2)):
        entry = start + 2 + 12 * random.randrange(count)
        field, width = random.choice(((0, 2), (2, 2), (4, 4), (8, 4), (8, 4), (8, 2)))
        value = random.choice((*EXTREMES, 3, 4, 5, 7, 8, 16, 32, 64, 100, 30_000)) % 256**width
        found[entry + field : entry + field + width] = value.to_bytes(width, "little" if order == "<" else "big")
    return bytes(found)


def change_head(data: bytes, random: Random) -> bytes:
    """Set numbers in the first 64 bytes."""
    found = bytearray(data)
    for _ in range(random.randint(1, 3)):
        _extreme(found, random.randrange(min(64, len(found))), 4, random)
    return bytes(found)


def change_tensors(data: bytes, random: Random) -> bytes:
    """Change the header of a safetensors file, with a size that fits."""
    size = int.from_bytes(data[:8], "little")
    header = change_json(data[8 : 8 + size], random)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def mutate(data: bytes, change: Change, random: Random) -> bytes:
    """Return a changed file: half of them by structure, a third by bytes, the rest by both."""
    how = random.random()
    if how < 0.5:
        return change(data, random)
    if how < 0.83:
        return change_bytes(data, random)
    return change_bytes(change(data, random), random)
