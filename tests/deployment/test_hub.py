"""Models on the hub: of a prepared cache, of a folder, and what is sent there. No test opens a connection."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest

import unip
from unip.deployment import hub
from unip.errors import UnipError
from unip.segmentation.storage import save_segmenter

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FRAME = np.random.default_rng(0).integers(0, 255, (32, 40), np.uint8)


@pytest.fixture
def folder(tmp_path, make_segmenter) -> Path:
    save_segmenter(make_segmenter(), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def cache(tmp_path, folder, monkeypatch) -> Path:
    """A cache of the hub that holds the model as owner/thing."""
    place = tmp_path / "cache" / "models--owner--thing"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return place


def test_a_cached_repository_is_loaded(folder, cache):
    expected = unip.load(folder, device="cpu")(FRAME).mask
    ways = [
        unip.load("hf:owner/thing", device="cpu"),
        unip.load(f"hf:owner/thing@{COMMIT}", device="cpu"),
        unip.Model.from_pretrained("owner/thing", device="cpu"),
        unip.Model.from_pretrained("owner/thing", revision=COMMIT, device="cpu"),
        unip.Model.from_pretrained(folder, device="cpu"),
    ]
    for model in ways:
        np.testing.assert_array_equal(model(FRAME).mask, expected)


def test_what_the_cache_has_not(cache):
    with pytest.raises(UnipError, match="hub could not be reached for owner/other") as caught:
        unip.load("hf:owner/other")
    assert "give its folder" in caught.value.fix
    with pytest.raises(UnipError, match="hub could not be reached for owner/thing@v2"):
        unip.Model.from_pretrained("owner/thing", revision="v2")
    with pytest.raises(UnipError, match="is not a repository name"):
        unip.load("hf:a/b/c")
    with pytest.raises(UnipError, match="unknown setting 'devcie'"):
        unip.Model.from_pretrained("owner/thing", devcie="cpu")
    (next(cache.glob("snapshots/*")) / "model.safetensors").unlink()
    with pytest.raises(UnipError, match=r"model\.safetensors"):
        unip.load("hf:owner/thing")


def test_a_model_is_pushed_as_its_folder(folder, tmp_path, monkeypatch):
    sent = {}

    class Api:
        def __init__(self, token):
            sent["token"] = token

        def create_repo(self, repository, *, private, exist_ok):
            sent["made"] = (repository, private, exist_ok)

        def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
            for name in allow_patterns:
                if (Path(folder_path) / name).is_file():
                    (tmp_path / "sent").mkdir(exist_ok=True)
                    shutil.copy(Path(folder_path) / name, tmp_path / "sent" / name)
            return SimpleNamespace(commit_url=f"https://example.com/{repo_id}")

    monkeypatch.setattr(hub, "HfApi", Api)
    model = unip.load(folder, device="cpu")
    (folder / "notes.txt").write_text("mine")
    assert model.push_to_hub("owner/thing", private=True, token="t") == "https://example.com/owner/thing"
    assert sent == {"token": "t", "made": ("owner/thing", True, True)}
    assert sorted(path.name for path in (tmp_path / "sent").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    again = unip.Model.from_pretrained(tmp_path / "sent", device="cpu")
    np.testing.assert_array_equal(again(FRAME).mask, model(FRAME).mask)
    with pytest.raises(UnipError, match="is not a repository name"):
        model.push_to_hub("owner/thing@main")


@pytest.mark.parametrize(
    ("error", "what", "fix"),
    [
        ("refused", "did not take owner/thing: 401: no rights", "hf auth login"),
        (ConnectionError("no route\nand much more"), "could not be reached for owner/thing: no route", "{folder}"),
        (huggingface_hub.errors.OfflineModeIsEnabled("off"), "could not be reached for owner/thing: off", "{folder}"),
    ],
)
def test_why_the_hub_has_it_not_is_told(folder, monkeypatch, error, what, fix):
    if error == "refused":
        answer = SimpleNamespace(headers={}, request=None)
        error = huggingface_hub.errors.HfHubHTTPError("401: no rights\nand much more", response=answer)

    def refuse(self, *args, **more):
        raise error

    monkeypatch.setattr(hub.HfApi, "create_repo", refuse)
    with pytest.raises(UnipError, match=rf"the hub {what}\n") as caught:
        unip.load(folder, device="cpu").push_to_hub("owner/thing")
    assert fix.format(folder=folder) in caught.value.fix
