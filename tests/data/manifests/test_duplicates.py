import json
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import unip.data.manifests.facts
from unip.data.manifests.duplicates import (
    DuplicateThresholds,
    choose_kept,
    describe_duplicate,
    find_duplicates,
    mark,
    near_features,
)
from unip.data.manifests.facts import FileFacts
from unip.data.manifests.manifest import read_manifest, write_manifest
from unip.data.manifests.rows import Row, table_of
from unip.data.manifests.scan import read_images
from unip.errors import UnipError
from unip.features.verbs import dedup


def item(name, phash, *, sha="", modality="infrared", side=10, sharp=0.0, group=""):
    row = Row(name.encode(), modality, "s", side, side, 1, sha or name, phash=phash, group=group)
    return replace(row, facts=FileFacts(row.path, sharpness=sharp))


def kept_and_dropped(groups):
    return {group.kept.path.decode(): [d.row.path.decode() for d in group.dropped] for group in groups}


def bits(count):
    return 2**count - 1


def scene(seed, side=96):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
    return np.array(small.resize((side, side), Image.Resampling.BICUBIC))


def test_one_of_each_kind_of_duplicate_is_kept():
    items = [item("a", 0, sha="x"), item("b", 0, sha="x"), item("c", bits(4)), item("d", bits(20)), item("e", bits(25))]
    groups = find_duplicates(items, DuplicateThresholds(4))
    assert kept_and_dropped(groups) == {"a": ["b", "c"]}
    assert [describe_duplicate(d) for d in groups[0].dropped] == ["exact copy of", "near duplicate (4 bits) of"]
    assert kept_and_dropped(find_duplicates(items, DuplicateThresholds(5))) == {"a": ["b", "c"], "d": ["e"]}
    assert kept_and_dropped(find_duplicates(items, DuplicateThresholds(-1))) == {"a": ["b"]}


def test_larger_then_sharper_then_first_is_kept():
    items = [item("a", 0), item("b", 0, sharp=9.0), item("c", 0, sharp=1.0), item("d", 1, side=20)]
    assert kept_and_dropped(find_duplicates(items, DuplicateThresholds())) == {"d": ["a", "b", "c"]}
    assert kept_and_dropped(find_duplicates(items[:3], DuplicateThresholds())) == {"b": ["a", "c"]}
    assert kept_and_dropped(find_duplicates([items[0], items[0]], DuplicateThresholds())) == {"a": ["a"]}


def test_a_pan_keeps_a_frame_now_and_then_and_chain_only_one():
    items = [item(f"{i:02}", bits(i)) for i in range(20)]
    near = kept_and_dropped(find_duplicates(items, DuplicateThresholds(4)))
    assert list(near) == ["00", "05", "10", "15"] and all(len(dropped) == 4 for dropped in near.values())
    assert list(kept_and_dropped(find_duplicates(items, DuplicateThresholds(4), "chain"))) == ["00"]


def test_frames_of_one_video_may_have_their_own_radius():
    items = [
        item("a", 0, group="v"),
        item("b", bits(8), group="v"),
        item("c", bits(16), group="w"),
        item("d", bits(24)),
    ]
    assert kept_and_dropped(find_duplicates(items, DuplicateThresholds(4, frame_radius=8))) == {"a": ["b"]}
    assert find_duplicates(items, DuplicateThresholds(4)) == []


def test_modalities_are_never_mixed():
    items = [item("a", 0, sha="x"), item("b", 0, sha="x", modality="rgb")]
    assert find_duplicates(items, DuplicateThresholds()) == []


def test_features_find_what_hashes_do_not():
    items = [item("a", 0), item("b", bits(30)), item("c", bits(60))]
    features = np.array([[1, 0], [0.99, np.sqrt(1 - 0.99**2)], [0, 1]], dtype=np.float32)
    groups = find_duplicates(items, DuplicateThresholds(similarity=0.98), features=features)
    assert kept_and_dropped(groups) == {"a": ["b"]}
    assert groups[0].dropped[0].similarity == pytest.approx(0.99)
    assert find_duplicates(items, DuplicateThresholds(similarity=0.995), features=features) == []


def test_feature_groups_are_those_of_all_pairs(monkeypatch):
    monkeypatch.setattr("unip.data.manifests.duplicates.BLOCK", 7)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 3)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    reach = (features.astype(float) @ features.T.astype(float) >= 0.97).astype(int)
    for _ in range(6):
        reach = (reach @ reach > 0).astype(int)
    assert near_features(features, 0.97).tolist() == reach.argmax(1).tolist()


def test_every_dropped_item_is_near_to_its_keeper():
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**10, 300, dtype=np.uint64)
    order = rng.permutation(300)
    keepers = choose_kept(
        np.zeros(300, int), order, lambda best, rest: np.bitwise_count(hashes[rest] ^ hashes[best]) <= 2
    )
    place = np.argsort(order)
    kept = np.flatnonzero(keepers == np.arange(300))
    for index in range(300):
        near = kept[np.bitwise_count(hashes[kept] ^ hashes[index]) <= 2]
        assert keepers[index] == near[np.argmin(place[near])] and place[keepers[index]] <= place[index]


def test_rows_say_why_they_were_dropped():
    items = [item("a", 0), item("b\n", 3), item("c", bits(40))]
    items.append(replace(item("z", 0), kept=False, reason="cap", facts=None))
    rows = mark(items, find_duplicates(items, DuplicateThresholds()))
    assert [(row.kept, row.reason) for row in rows] == [
        (True, ""),
        (False, "near duplicate (2 bits) of a"),
        (True, ""),
        (False, "cap"),
    ]


def folder(root):
    images = root / "set/thermal"
    images.mkdir(parents=True)
    for seed in range(4):
        Image.fromarray(scene(seed)).save(images / f"{seed}.png")
    Image.fromarray(scene(0, 192)).save(images / "0-large.png")
    (images / "1-copy.png").write_bytes((images / "1.png").read_bytes())
    (images / "empty.png").touch()
    (images / os.fsdecode(b"n\xff\n.png")).write_bytes((images / "1.png").read_bytes())
    return images


def test_verb_writes_a_manifest_and_deletes_nothing(tmp_path, capsys):
    images = folder(tmp_path)
    before = sorted(os.listdir(images))
    result = dedup(sources=[str(tmp_path / "set")], out=tmp_path / "out")
    assert sorted(os.listdir(images)) == before
    assert (result.images, result.exact, result.near, result.unreadable) == (7, 2, 1, 1)
    table = read_manifest(result.manifest, all_rows=True)
    reasons = {os.path.basename(row["path"]): row["reason"] for row in table.to_pylist()}
    assert reasons[b"0.png"].startswith("near duplicate (") and reasons[b"0.png"].endswith("0-large.png")
    assert reasons[b"1.png"].startswith("exact copy of") and reasons[b"n\xff\n.png"].startswith("exact copy of")
    assert "0 bytes" in reasons[b"empty.png"]
    assert read_manifest(result.manifest).num_rows == 4
    record = json.loads((tmp_path / "out/groups.json").read_text())
    assert [len(group["dropped"]) for group in record["groups"]] == [2, 1]
    with pytest.raises(UnipError, match="exists"):
        dedup(sources=[str(tmp_path / "set")], out=tmp_path / "out")
    assert "Duplicates" in capsys.readouterr().out


def test_second_run_reads_nothing_again_and_writes_the_same(tmp_path, monkeypatch):
    folder(tmp_path)
    first = dedup(sources=[str(tmp_path / "set")], out=tmp_path / "out").manifest.read_bytes()
    monkeypatch.setattr(unip.data.manifests.facts, "read_facts", lambda path: pytest.fail("read again"))
    again = dedup(sources=[str(tmp_path / "set")], out=tmp_path / "out", overwrite=True).manifest.read_bytes()
    assert again == first


def test_groups_of_a_manifest_are_kept(tmp_path):
    images = folder(tmp_path)
    rows, _ = read_images([str(images)])
    rows = [replace(row, group="flight", frame=i) for i, row in enumerate(rows) if row.kept]
    rows[-1] = replace(rows[-1], kept=False, reason="cap")
    write_manifest(table_of(rows), tmp_path / "old/manifest.parquet")
    result = dedup(sources=[str(tmp_path / "old/manifest.parquet")], out=tmp_path / "new")
    found = read_manifest(result.manifest, all_rows=True).to_pylist()
    assert [(row["group"], row["frame"]) for row in found] == [("flight", row.frame) for row in rows]
    assert "cap" in {row["reason"] for row in found}


def test_dry_run_writes_nothing(tmp_path):
    folder(tmp_path)
    dedup(sources=[str(tmp_path / "set")], out=tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named_before_the_work(tmp_path, monkeypatch):
    folder(tmp_path)
    monkeypatch.setattr(unip.data.manifests.facts, "read_facts", lambda path: pytest.fail("read"))
    (tmp_path / "file").touch()
    with pytest.raises(UnipError, match="cannot write"):
        dedup(sources=[str(tmp_path / "set")], out=tmp_path / "file/out")


def test_features_of_a_student_join_the_search_and_are_kept(tmp_path, monkeypatch):
    folder(tmp_path)
    from unip.features import deduplication as program
    from unip.features import pooled

    report = SimpleNamespace(sha256="one")
    backbone = SimpleNamespace(model=torch.nn.Identity(), report=report)
    monkeypatch.setattr(program, "load_backbone", lambda source: backbone)
    monkeypatch.setattr(pooled, "_compute", lambda model, images: np.tile(np.float32([[0.6, 0.8]]), (len(images), 1)))
    result = dedup(sources=[str(tmp_path / "set")], out=tmp_path / "out", model="unip_micro")
    assert result.near + result.exact == 6  # all alike
    monkeypatch.setattr(pooled, "_compute", lambda model, images: pytest.fail("computed again"))
    dedup(sources=[str(tmp_path / "set")], out=tmp_path / "out", model="unip_micro", overwrite=True)
    report.sha256 = "two"  # the file has other weights now
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        dedup(sources=[str(tmp_path / "set")], out=tmp_path / "out", model="unip_micro", overwrite=True)
