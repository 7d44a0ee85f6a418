from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from unip.data.building import BuildResult
from unip.data.images.decoding import read_image
from unip.data.manifests import videos as module
from unip.data.manifests.manifest import paths_of, read_manifest
from unip.data.verbs import build
from unip.errors import UnipError

av = pytest.importorskip("av")

HEIGHT, WIDTH = 48, 64


def frames(count: int, *, colour: bool = False, deep: bool = False) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    shape = (HEIGHT, WIDTH, 3) if colour else (HEIGHT, WIDTH)
    if deep:
        return [rng.integers(7000, 60000, shape, dtype=np.uint16) for _ in range(count)]
    return [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]


def film(path: Path, pictures: list[np.ndarray], pixels: str) -> Path:
    """Write a lossless video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        names = {2: "gray16le" if pictures[0].dtype == np.uint16 else "gray", 3: "rgb24"}
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format=names[picture.ndim])
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def run(tmp_path: Path, out: str = "out", **source: Any) -> BuildResult:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"sources": [{"name": "cam", "modality": "infrared", **source}]}))
    return build(sources=[str(recipe)], out=tmp_path / out)


SCRIPTS = {
    "concat": "ffconcat version 1.0\nfile secret.mkv\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
    "text": "[Reference]\nRef1=http://127.0.0.1:9/a\n",
}


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_scripts_behind_a_videos_name_lead_nowhere(tmp_path: Path, kind: str, suffix: str) -> None:
    film(tmp_path / "videos/secret.mkv", frames(3), "gray")
    film(tmp_path / "good/good.mkv", frames(2), "gray")
    os.rename(tmp_path / "good/good.mkv", tmp_path / "videos/good.mkv")
    (tmp_path / f"videos/script{suffix}").write_text(SCRIPTS[kind])
    result = run(tmp_path, video="videos")
    assert set(read_manifest(result.manifest)["group"].to_pylist()) == {"secret.mkv", "good.mkv"}
    assert result.dropped == {"unreadable": 1}


@pytest.mark.parametrize(("suffix", "codec"), [(s, "mpeg4") for s in (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".wmv")])
def test_every_documented_ending_is_read(tmp_path: Path, suffix: str, codec: str) -> None:
    _encode(tmp_path / f"videos/film{suffix}", codec)
    assert run(tmp_path, video="videos").sources[0].images == 4


@pytest.mark.parametrize(("suffix", "codec"), [(".mpg", "mpeg1video"), (".mpeg", "mpeg2video"), (".ts", "mpeg2video")])
def test_every_documented_ending_of_mpeg_is_read(tmp_path: Path, suffix: str, codec: str) -> None:
    _encode(tmp_path / f"videos/film{suffix}", codec)
    assert run(tmp_path, video="videos").sources[0].images == 4


def _encode(path: Path, codec: str) -> None:
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in frames(4, colour=True):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_every_nth_frame_without_loss(tmp_path: Path) -> None:
    pictures = frames(11)
    film(tmp_path / "videos/a/one.mkv", pictures, "gray")
    film(tmp_path / "videos/two.avi", pictures[:3], "gray")
    result = run(tmp_path, video="videos", every=4)
    table = read_manifest(result.manifest)
    assert list(zip(table["group"].to_pylist(), table["frame"].to_pylist(), strict=True)) == [
        ("a/one.mkv", 0),
        ("a/one.mkv", 4),
        ("a/one.mkv", 8),
        ("two.avi", 0),
    ]
    for path, expected in zip(paths_of(table), [pictures[0], pictures[4], pictures[8], pictures[0]], strict=True):
        assert Path(path).is_relative_to(tmp_path / "out/images/cam")
        np.testing.assert_array_equal(read_image(path), expected)
    again = run(tmp_path, "again", video="videos", every=4)
    assert again.manifest.read_bytes() == result.manifest.read_bytes()  # frames move with the manifest


def test_sixteen_bits_stay(tmp_path: Path) -> None:
    pictures = frames(2, deep=True)
    film(tmp_path / "deep.mkv", pictures, "gray16le")
    table = read_manifest(run(tmp_path, video="deep.mkv").manifest)
    assert table["bits"].to_pylist() == [16, 16]
    for path, expected in zip(paths_of(table), pictures, strict=True):
        np.testing.assert_array_equal(read_image(path), expected)


def test_fewer_bits_keep_their_counts(tmp_path: Path) -> None:
    pictures = [picture >> 4 for picture in frames(2, deep=True)]
    film(tmp_path / "deep.mkv", [picture << 4 for picture in pictures], "gray12le")
    table = read_manifest(run(tmp_path, video="deep.mkv").manifest)
    for path, expected in zip(paths_of(table), pictures, strict=True):
        assert np.abs(read_image(path).astype(int) - expected).max() <= 1


def test_colour_where_it_is_wanted(tmp_path: Path) -> None:
    pictures = frames(2, colour=True)
    film(tmp_path / "rgb.mkv", pictures, "bgr0")
    table = read_manifest(run(tmp_path, video="*.mkv", modality="rgb", grey=False).manifest)
    np.testing.assert_array_equal(read_image(paths_of(table)[1]), pictures[1])
    grey = read_manifest(run(tmp_path, "grey", video="*.mkv", modality="rgb").manifest)
    assert read_image(paths_of(grey)[1]).ndim == 2


def test_a_cap_decodes_only_what_it_keeps(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", frames(20), "gray")
    result = run(tmp_path, video="a.mkv", cap=6)
    assert result.dropped == {"cap": 14}
    files = [path.name for path in (tmp_path / "out/images/cam/a.mkv").iterdir() if path.suffix == ".png"]
    table = read_manifest(result.manifest)
    assert sorted(files) == [os.path.basename(path) for path in paths_of(table)] and len(files) == 6
    assert table["frame"].to_pylist() == [int(file[:6]) for file in sorted(files)]


def test_damaged_videos_stop_nothing(tmp_path: Path) -> None:
    whole = film(tmp_path / "v/whole.mkv", frames(10), "gray").read_bytes()
    (tmp_path / "v/cut.mkv").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "v/text.mp4").write_text("hello")
    (tmp_path / "v/empty.mp4").touch()
    result = run(tmp_path, video="v")
    rows = read_manifest(result.manifest, all_rows=True).to_pylist()
    kept = [row["group"] for row in rows if row["kept"]]
    assert kept.count("whole.mkv") == 10 and 0 < kept.count("cut.mkv") < 10
    bad = {row["group"]: row["reason"] for row in rows if not row["kept"]}
    assert bad["text.mp4"].startswith("unreadable: video: ") and bad["empty.mp4"].startswith("unreadable: video: ")


def test_frames_that_are_there_are_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(tmp_path / "a.mkv", frames(8), "gray")
    real, saved = module._save, []

    def full(pixels: Any, path: Path) -> None:
        if len(saved) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(pixels, path)
        saved.append(path)

    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    monkeypatch.setattr(module, "_save", full)
    with pytest.raises(UnipError, match=r"cannot write the frames .*No space left"):
        run(tmp_path, video="a.mkv")
    assert not list((tmp_path / "out").rglob("*.part"))
    monkeypatch.setattr(module, "_save", lambda pixels, path: saved.append(path) or real(pixels, path))
    result = run(tmp_path, video="a.mkv")
    assert len(saved) == len(set(saved)) == 8
    assert read_manifest(result.manifest).num_rows == 8


def test_another_video_of_the_same_name(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", frames(4), "gray")
    run(tmp_path, video="a.mkv")
    (tmp_path / "out/manifest.parquet").unlink()
    pictures = frames(3)
    film(tmp_path / "a.mkv", pictures, "gray")
    paths = paths_of(read_manifest(run(tmp_path, video="a.mkv").manifest))
    assert len(paths) == 3 and len(list((tmp_path / "out/images/cam/a.mkv").glob("*.png"))) == 3
    np.testing.assert_array_equal(read_image(paths[2]), pictures[2])


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnipError, match="needs PyAV") as caught:
        run(tmp_path, video="a.mkv")
    assert "unip[video]" in caught.value.fix
