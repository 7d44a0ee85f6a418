from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.images.decoding import to_grey8
from unip.data.manifests import facts as module
from unip.data.manifests.facts import FileFacts, facts_of, percentiles, perceptual_hash, read_facts

imagehash = pytest.importorskip("imagehash")

RNG = np.random.default_rng(0)


def smooth(height: int = 48, width: int = 60) -> np.ndarray:
    small = Image.fromarray(RNG.integers(0, 256, (6, 7), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_the_hash_is_that_of_imagehash() -> None:
    for _ in range(20):
        grey = smooth()
        assert perceptual_hash(grey) == int(str(imagehash.phash(Image.fromarray(grey))), 16)


@pytest.mark.parametrize("deep", [False, True])
def test_numbers_of_the_stored_counts(tmp_path: Path, deep: bool) -> None:
    pixels = RNG.integers(7000, 16384, (31, 40), dtype=np.uint16) if deep else smooth()
    pixels = pixels.copy()
    pixels[0, :5] = 16383 if deep else 255
    pixels[1:, 0] = 0
    path = save(tmp_path / "a.png", pixels)
    facts = read_facts(bytes(path))
    assert facts.problem is None and facts.path == bytes(path) and facts.bytes == path.stat().st_size
    assert (facts.height, facts.width) == pixels.shape
    assert (facts.bits, facts.channels, facts.grey) == (16 if deep else 8, 1, True)
    values = pixels.astype(np.float64)
    assert [facts.low, facts.high] == pytest.approx(np.percentile(values, (0.5, 99.5)))
    assert (facts.mean, facts.std) == pytest.approx((values.mean(), values.std()))
    ends = np.isin(pixels, (0, 16383 if deep else 255))
    assert facts.saturated == pytest.approx(ends.mean())
    assert facts.phash == perceptual_hash(to_grey8(pixels))


def test_colour(tmp_path: Path) -> None:
    pixels = np.stack([smooth(), smooth(), smooth()], axis=2)
    facts = read_facts(str(save(tmp_path / "a.png", pixels)))
    luma = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float64)
    assert (facts.channels, facts.grey, facts.bits) == (3, False, 8)
    assert facts.mean == pytest.approx(luma.mean())
    same = read_facts(str(save(tmp_path / "b.png", np.repeat(pixels[..., :1], 3, axis=2))))
    assert (same.channels, same.grey) == (3, True)


def test_percentiles_are_numpys() -> None:
    for size in (1, 2, 7, 500):
        values = RNG.integers(0, 9, size)
        counts = np.bincount(values, minlength=256)
        shares = (0, 0.5, 33.3, 50, 99.5, 100)
        assert percentiles(counts, shares) == pytest.approx(np.percentile(values, shares))


def test_what_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    whole = save(tmp_path / "cut.png", smooth()).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    wanted = {
        "empty": "empty (0 bytes)",
        "text": "not an image",
        "cut": "truncated or damaged",
        "loop": "symbolic links",
        "pipe": "not a regular file",
        "gone": "No such file",
    }
    for name, words in wanted.items():
        path = os.fsencode(tmp_path / f"{name}.png")
        problem = read_facts(path).problem
        assert problem and words in problem and "\n" not in problem
        assert read_facts(path) == FileFacts(path, problem=problem)


def test_a_journal_spares_reading_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [save(tmp_path / f"{i}.png", smooth()) for i in range(6)]
    odd = tmp_path / "\udcff\n.png"
    try:
        files.append(save(odd, smooth()))
    except OSError:
        pass
    (tmp_path / "bad.png").write_text("hello")
    paths = [os.fsencode(path) for path in [*files, tmp_path / "bad.png"]]
    journal = tmp_path / "out" / "facts"
    expected = list(facts_of(paths))
    assert list(facts_of(paths[:3], journal)) == expected[:3]
    assert len(journal.read_bytes().splitlines()) - 1 == 3
    with journal.open("ab") as file:
        file.write(b'[1, 20, "cut by a ki')
    read: list[bytes] = []
    real = read_facts
    monkeypatch.setattr(module, "read_facts", lambda path: read.append(path) or real(path))
    assert list(facts_of(paths, journal)) == expected
    assert sorted(read) == sorted(paths[3:])
    read.clear()
    assert list(facts_of(paths, journal, workers=1)) == expected and read == []
    save(files[0], smooth(50, 50))  # a changed file is read again
    assert next(facts_of(paths, journal)).height == 50
    assert read == paths[:1]


@pytest.mark.parametrize("value", [None, "x", -1, 1e400, 0.5, [], {}, 10**30, True], ids=str)
def test_a_line_of_a_journal_that_cannot_be_is_read_anew(tmp_path: Path, value: object) -> None:
    """Each value in turn is replaced by one that is of another type, or too large."""
    Image.new("L", (40, 30), 7).save(tmp_path / "a.png")
    path = os.fsencode(tmp_path / "a.png")
    (expected,) = facts_of([path], tmp_path / "journal")
    line = json.loads((tmp_path / "journal").read_text())
    for place in range(len(line)):
        wrong = [*line[:place], value, *line[place + 1 :]]
        allowed = type(value) is type(line[place]) and value not in (-1, 10**30, 1e400)
        if not allowed and not (place == len(line) - 1 and isinstance(value, str)):
            (tmp_path / "journal").write_text(f"{json.dumps(wrong)}\n{'[' * 100_000}\n")
            assert list(facts_of([path], tmp_path / "journal")) == [expected], place


def test_work_goes_on_without_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [os.fsencode(save(tmp_path / f"{i}.png", smooth())) for i in range(3)]
    expected = list(facts_of(paths))
    (tmp_path / "file").touch()
    assert list(facts_of(paths, tmp_path / "file" / "journal")) == expected

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    monkeypatch.setattr(module, "SYNC_EVERY_SECONDS", 0)
    assert list(facts_of(paths, tmp_path / "journal")) == expected


def test_a_stopped_reader_keeps_what_is_done(tmp_path: Path) -> None:
    paths = [os.fsencode(save(tmp_path / f"{i}.png", smooth())) for i in range(8)]
    conversion = facts_of(paths, tmp_path / "journal", workers=1)
    next(conversion), next(conversion)
    conversion.close()
    lines = [json.loads(line) for line in (tmp_path / "journal").read_bytes().splitlines() if line]
    assert len(lines) == 2
