"""The explorer: maps survive their way into the page, the page obeys, and it stays within its budget."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import timm
import torch

from unip.analysis.explorer import (
    LEVELS,
    ExplorerImage,
    ExplorerModel,
    encode_layer,
    explorer_grid,
    explorer_maps,
    mean_only,
    open_layer,
    pool_maps,
    render_explorer,
)
from unip.attention.capture import attention_map, visiting
from unip.vit.spec import build_backbone
from unip.vit.student import student_spec

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
PREFIX, GRID = 2, (6, 6)
LENGTH = PREFIX + GRID[0] * GRID[1]
BUDGET = 22_000_000  # bytes, more than any map here takes


class LayerMaps(NamedTuple):
    patches: np.ndarray  # (maps, L queries, T patches); heads first, their mean last
    prefix: np.ndarray  # (maps, L, P)


def decode_layer(blob: bytes) -> LayerMaps:
    """Decode a blob as explorer.js does it in the browser."""
    scale, prefix, levels = open_layer(blob)
    return LayerMaps(scale[..., None] * (levels.astype(np.float32) / np.float32(LEVELS)), prefix)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def made_attention(kind: str, heads: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape, place = (heads, LENGTH, LENGTH), np.arange(LENGTH)
    if kind == "random":
        return softmax(rng.normal(size=shape) * 2)
    if kind == "local":
        return softmax(np.broadcast_to(-np.abs(place[:, None] - place), shape) * np.arange(1, heads + 1)[:, None, None])
    if kind == "uniform":
        return np.full(shape, 1 / LENGTH)
    if kind == "one-hot":
        return np.broadcast_to(np.eye(LENGTH), shape)
    if kind == "underflow":  # as float32 softmax leaves it: tiny numbers, and rows with nothing on the patches at all
        found = softmax(rng.normal(size=shape) * 60).astype(np.float32)
        found[:, 3], found[:, 3, 0] = 0, 1
        found[:, 4], found[:, 4, 0], found[:, 4, 7] = 0, 1, 1e-44
        return found
    raise KeyError(kind)


@pytest.mark.parametrize("kind", ["random", "local", "uniform", "one-hot", "underflow"])
def test_round_trip(kind):
    attention = made_attention(kind).astype(np.float32)
    found = decode_layer(encode_layer(attention, PREFIX))
    wanted = np.concatenate([attention, attention.mean(0, keepdims=True)])
    patches = wanted[:, :, PREFIX:].astype(float)
    assert found.patches.shape == patches.shape and found.patches.dtype == np.float32
    largest = patches.max(-1, keepdims=True)
    assert (np.abs(found.patches - patches) <= np.maximum(largest / 255, 1e-44)).all()
    np.testing.assert_array_equal(found.patches.max(-1), wanted[:, :, PREFIX:].max(-1))  # the largest value is exact
    np.testing.assert_array_equal(found.prefix, wanted[:, :, :PREFIX])


def test_rows_like_the_one_before_take_little_room():
    rng = np.random.default_rng(0)
    different = softmax(rng.normal(size=(1, LENGTH, LENGTH)))
    alike = np.broadcast_to(different[:, :1], different.shape)
    sizes = [len(encode_layer(attention, PREFIX)) for attention in (alike, different)]
    assert sizes[0] < 700 < sizes[1] < 2 * LENGTH * LENGTH


def test_large_grids_are_pooled():
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand(2, 2 + 30 * 25, 2 + 30 * 25, generator=generator).softmax(-1)
    found = pool_maps(attention, 2, (30, 25)).double()
    assert explorer_grid((30, 25)) == (15, 13) and explorer_grid((24, 24)) == (24, 24)
    assert found.shape == (2, 2 + 15 * 13, 2 + 15 * 13)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 2 + 15 * 13, dtype=torch.float64), atol=1e-5, rtol=0)
    queries = [2 + r * 25 + c for r in (6, 7) for c in (4, 5)]  # block row 3, column 2
    keys = [2 + r * 25 + 24 for r in (28, 29)]  # the last block has one column only
    wanted = attention.double()[1][queries][:, keys].sum(1).mean()
    assert found[1, 2 + 3 * 13 + 2, 2 + 14 * 13 + 12].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert found[0, 1, 0].item() == pytest.approx(attention[0, 1, 0].item(), rel=1e-4)
    small = attention[:, :18, :18]
    assert pool_maps(small, 2, (4, 4)) is small


def test_mean_only():
    blob = encode_layer(made_attention("random"), PREFIX)
    whole, mean = decode_layer(blob), decode_layer(mean_only(blob))
    np.testing.assert_array_equal(mean.patches, whole.patches[-1:])
    np.testing.assert_array_equal(mean.prefix, whole.prefix[-1:])
    assert len(mean_only(blob)) < len(blob) / 3


def tiny(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if kind == "student":  # a last block with as many heads as its teacher
        spec = student_spec("unip_micro", last_heads=6)
        spec = spec.model_copy(update={"arguments": {**spec.arguments, "img_size": 64, "depth": 2, "embed_dim": 48}})
        model = build_backbone(spec)
    else:
        name, size = {
            "plain": ("vit_tiny_patch16_224", 64),
            "registers": ("vit_small_patch14_reg4_dinov2", 56),
            "rope": ("vit_small_patch16_dinov3", 64),
        }[kind]
        model = timm.create_model(name, num_classes=0, img_size=size, depth=2, embed_dim=48, num_heads=3)
    for parameter in model.parameters():  # initial weights give almost uniform attention: make it pointed
        torch.nn.init.normal_(parameter, std=0.25)
    return model.eval()


def true_maps(model: Any, pixels: torch.Tensor) -> dict[int, np.ndarray]:
    found: dict[int, np.ndarray] = {}
    with (
        torch.inference_mode(),
        visiting(model, [1, 2], lambda n, q, k, s: found.update({n: attention_map(q, k, s).numpy()})),
    ):
        model.forward_features(pixels)
    return found


@pytest.mark.parametrize(
    ("kind", "prefix", "heads"),
    [("plain", 1, [3, 3]), ("registers", 5, [3, 3]), ("rope", 5, [3, 3]), ("student", 1, [3, 6])],
)
def test_blobs_of_a_model_hold_its_attention(kind, prefix, heads):
    model = tiny(kind)
    pixels = torch.randn(2, 3, *model.patch_embed.img_size)
    wanted = true_maps(model, pixels)
    blobs = explorer_maps(model, pixels)
    assert [len(layers) for layers in blobs] == [2, 2]
    for number, layers in enumerate(blobs):
        for layer, blob in enumerate(layers, start=1):
            found, attention = decode_layer(blob), wanted[layer][number]
            assert found.patches.shape == (heads[layer - 1] + 1, 16 + prefix, 16)
            assert attention.std() > 1e-3
            attention = np.concatenate([attention, attention.mean(0, keepdims=True)])
            patches = attention[:, :, prefix:]
            assert (np.abs(found.patches - patches) <= patches.max(-1, keepdims=True) / 255 + 1e-6).all()
            np.testing.assert_allclose(found.prefix, attention[:, :, :prefix], atol=1e-6)


def made_images(count: int, *, pair: bool = False, side: int = 64) -> list[ExplorerImage]:
    rng = np.random.default_rng(1)
    images = []
    for number in range(count):
        grey = rng.integers(40, 120, (side, side), dtype=np.uint8)
        grey[16:32, 32:48] = 250 - number  # the brightest patch: row 1, column 2 of four
        pictures = {"infrared": grey, "visible": np.stack([grey, 255 - grey, grey], 2)} if pair else {"images": grey}
        images.append(ExplorerImage(f"frame {number}</script>.png", pictures))
    return images


def made_model(count: int, *, name: str = "model", heads: int = 3, layers: int = 2, pair: bool = False):
    blob = encode_layer(made_attention("random", heads), PREFIX)
    maps = {variant: [[blob] * layers] * count for variant in (("infrared", "visible") if pair else ("images",))}
    return ExplorerModel(name, "other", GRID, True, 1, [heads] * layers, ["local", "hybrid"][:layers], 2, maps)


def blob_keys(fragment: str) -> list[str]:
    return re.findall(r'data-blob="(\d[^"]+)"', fragment)


def blob_bytes(fragment: str) -> int:
    return sum(map(len, re.findall(r'data-blob="\d[^"]+">([^<]+)<', fragment)))


def test_the_budget_takes_single_heads_first_and_then_images():
    images, models = made_images(4), [made_model(4, name="small"), made_model(4, name="large", heads=6)]
    whole, notes = render_explorer(images, models, budget_bytes=BUDGET)
    assert notes == [] and len(blob_keys(whole)) == 16
    total = blob_bytes(whole)

    exactly, notes = render_explorer(images, models, budget_bytes=total)
    assert notes == [] and exactly == whole

    for count, budget in ((3, total - 1), (2, total * 0.7), (1, total * 0.5)):
        fragment, notes = render_explorer(images, models, budget_bytes=int(budget))
        assert len(blob_keys(fragment)) == 16
        assert blob_bytes(fragment) <= budget
        assert len(notes) == 1 and f"single heads on {count} of 4 images" in notes[0] and notes[0] in fragment
        assert page_data(fragment)["headImages"] == count

    means, notes = render_explorer(images, models, budget_bytes=total // 3)
    assert len(blob_keys(means)) == 16 and "single heads on no image" in notes[0]
    fragment, notes = render_explorer(images, models, budget_bytes=blob_bytes(means) - 1)
    assert len(blob_keys(fragment)) == 12 and "shows 3 of 4 images" in notes[0] and len(notes) == 2

    fragment, notes = render_explorer(images, models, budget_bytes=1)
    assert len(blob_keys(fragment)) == 4 and len(notes) == 3 and "even so" in notes[2]


def page_data(fragment: str) -> dict[str, Any]:
    return json.loads(re.search(r"<script[^>]*data-explorer>(.*?)</script>", fragment, re.S)[1])


def test_the_fragment_is_whole_in_itself_and_names_end_no_script():
    model = replace(made_model(2), name="<b>&</script>", group="distilled")
    fragment, _ = render_explorer(made_images(2), [model], budget_bytes=BUDGET)
    assert not re.search(r"https?://|src=\"(?!data:image/jpeg;base64)|<link|\son\w+=", fragment)
    assert fragment.count("<script") == fragment.count("</script>") == 2 * 2 + 2
    assert "<b>&</script>" not in fragment and "frame 0&lt;/script&gt;.png" in fragment
    data = page_data(fragment)
    assert data["models"][0]["name"] == "<b>&</script>" and data["models"][0]["chosen"] == 2
    assert data["images"][0]["start"] == [3.5 / 6, 2.5 / 6]


# ---- in a browser ----


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("the browser test needs chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Page:
    """A page with the explorer, and the truth about its models."""

    def __init__(self, browser: Any, file: Any, truth: list[dict[str, dict[int, np.ndarray]]], **context: Any) -> None:
        self.truth, self.complaints, self.requests = truth, [], []
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **context})
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def panel(self, number: int) -> dict[str, Any]:
        return self.page.evaluate("explorer.state()")["panels"][number]

    def check_row(self, number: int) -> None:
        """What a panel shows is what the model's attention is."""
        row = np.array(self.page.evaluate(f"explorer.row({number})"))
        state = self.page.evaluate("explorer.state()")
        panel = state["panels"][number]
        model = ["plain", "registers"].index(panel["model"])
        maps = self.truth[model][panel["variant"]][panel["layer"]][state["image"]]
        attention = maps.mean(0) if panel["head"] == "mean" else maps[panel["head"] - 1]
        prefix = (1, 5)[model]
        wanted = attention[0 if state["classToken"] else prefix + panel["patch"], prefix:]
        assert np.abs(row - wanted).max() <= wanted.max() / 255 + 1e-6

    def canvas(self, number: int) -> Any:
        return self.page.locator(f".panel >> nth={number} >> canvas.map")

    def pixels(self, number: int) -> str:
        self.page.evaluate(f"explorer.row({number})")
        return self.canvas(number).evaluate("canvas => canvas.toDataURL()")

    def place(self, number: int, row: int, column: int) -> tuple[float, float]:
        self.canvas(number).scroll_into_view_if_needed()
        box = self.canvas(number).bounding_box()
        return box["x"] + (column + 0.5) / 4 * box["width"], box["y"] + (row + 0.5) / 4 * box["height"]

    def press(self, keys: str) -> None:
        for key in keys.split():
            self.page.keyboard.press(key)

    def button(self, panel: int, kind: str, index: int) -> Any:
        return self.page.locator(f".panel >> nth={panel} >> .{kind} button >> nth={index}")

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []
        assert all(url.startswith(("file:", "data:")) for url in self.requests)
        assert sum(url.startswith("file:") for url in self.requests) == 1


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Pages with one model, with two models, and with pairs; models of a 4 x 4 grid on three made images."""
    folder = tmp_path_factory.mktemp("explorer")
    images, pairs = made_images(3), made_images(2, pair=True)
    models, truths, files = [], [], {}
    for name, registers in (("plain", 0), ("registers", 4)):
        net = tiny(name)
        pixels = {v: torch.randn(3, 3, *net.patch_embed.img_size) for v in ("images", "infrared", "visible")}
        truths.append({v: true_maps(net, x) for v, x in pixels.items()})
        maps = {v: explorer_maps(net, x) for v, x in pixels.items()}
        models.append(ExplorerModel(name, "other", (4, 4), True, registers, [3, 3], ["local", "hybrid"], 2, maps))
    for name, shown, some in (("one", images, models[:1]), ("two", images, models), ("pair", pairs, models[:1])):
        fragment, notes = render_explorer(shown, some, budget_bytes=BUDGET)
        assert notes == []
        files[name] = folder / f"{name}.html"
        files[name].write_text(
            "<!doctype html><html><head><meta charset='utf-8'>"
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<style>:root {{ color-scheme: light dark }}</style></head><body>{fragment}</body></html>",
            encoding="utf-8",
        )
    return {"truth": truths, **files}


@pytest.fixture
def opened(browser, explorer):
    pages = []

    def open_page(name: str, **context: Any) -> Page:
        pages.append(Page(browser, explorer[name], explorer["truth"], **context))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


def test_a_click_asks_the_patch_in_both_panels(opened):
    page = opened("two")
    assert [page.panel(n)["model"] for n in (0, 1)] == ["plain", "registers"]
    assert [page.panel(n)["layer"] for n in (0, 1)] == [2, 2]  # the recommended ones
    assert page.panel(0)["patch"] == 6  # the brightest
    before = [page.pixels(n) for n in (0, 1)]
    page.page.mouse.click(*page.place(0, 3, 1))
    assert [page.panel(n)["patch"] for n in (0, 1)] == [13, 13]
    assert all(page.pixels(n) != before[n] for n in (0, 1))
    page.check_row(0)
    page.check_row(1)
    text = page.page.locator(".panel >> nth=1 >> .readout").inner_text()
    assert "row 4 of 4, column 2 of 4" in text and "class token" in text and "4 registers" in text
    page.page.mouse.move(*page.place(1, 0, 2))
    value = float(page.page.locator(".panel >> nth=1 >> .under").inner_text().split()[-1])
    assert value == pytest.approx(page.page.evaluate("explorer.row(1)")[2], rel=0.06)
    page.page.mouse.click(*page.place(1, 0, 2))
    assert [page.panel(n)["patch"] for n in (0, 1)] == [2, 2]


def test_layers_heads_models_and_images_by_click(opened):
    page = opened("two")
    before = page.pixels(0)
    page.button(0, "layers", 0).click()
    page.button(0, "heads", 2).click()
    assert (page.panel(0)["layer"], page.panel(0)["head"]) == (1, 2)
    assert (page.panel(1)["layer"], page.panel(1)["head"]) == (2, "mean")
    page.check_row(0)
    assert page.pixels(0) != before
    assert page.button(0, "layers", 0).get_attribute("aria-pressed") == "true"
    assert page.button(0, "layers", 1).get_attribute("aria-label") == "layer 2: hybrid, recommended"
    page.page.get_by_label("same relative depth").check()
    assert page.panel(1)["layer"] == 1
    page.page.locator(".panel >> nth=0 >> select").select_option("1")
    assert page.panel(0)["model"] == "registers"
    page.check_row(0)
    page.page.locator("[data-image='2']").click()
    page.check_row(0)
    page.page.get_by_role("button", name="Query: class token").click()
    assert page.page.evaluate("explorer.state().classToken")
    page.check_row(1)


def test_keys(opened):
    page = opened("one")
    assert [page.panel(n)["layer"] for n in (0, 1)] == [2, 1]  # the recommended layer is the last
    page.canvas(0).focus()
    page.press("ArrowDown ArrowLeft ArrowLeft ArrowLeft ArrowLeft")
    assert [page.panel(n)["patch"] for n in (0, 1)] == [8, 8]
    page.press("[ h h")
    assert (page.panel(0)["layer"], page.panel(0)["head"]) == (1, 2)
    page.check_row(0)
    page.press("] ] Shift+H 3")
    assert (page.panel(0)["layer"], page.panel(0)["head"]) == (2, 1)
    assert page.page.evaluate("explorer.state().image") == 2
    page.press("9 c")
    page.check_row(0)
    page.check_row(1)
    assert "Query: class token" in page.page.locator(".panel >> nth=0 >> .readout").inner_text()
    page.press("Tab")
    assert page.page.evaluate("document.activeElement.tagName") == "SELECT"  # and on to the other panel


def test_taps_on_a_phone(opened):
    phone = {"width": 390, "height": 844}
    page = opened("pair", viewport=phone, has_touch=True, is_mobile=True, color_scheme="dark")
    assert [page.panel(n)["variant"] for n in (0, 1)] == ["infrared", "visible"]
    assert [page.panel(n)["layer"] for n in (0, 1)] == [2, 2]
    page.check_row(1)
    page.page.touchscreen.tap(*page.place(0, 2, 3))
    assert [page.panel(n)["patch"] for n in (0, 1)] == [11, 11]
    page.check_row(0)
    page.check_row(1)
    page.page.locator(".panel >> nth=1 >> button[data-variant='infrared']").tap()
    page.button(1, "heads", 3).tap()
    page.check_row(1)
    boxes = [page.canvas(n).bounding_box() for n in (0, 1)]
    assert boxes[1]["y"] > boxes[0]["y"] + boxes[0]["height"]  # stacked
    for width in (390, 360):
        page.page.set_viewport_size({**phone, "width": width})
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.canvas(0).evaluate("canvas => getComputedStyle(canvas).touchAction") == "manipulation"
    assert (
        page.page.locator(".panel select >> nth=0").evaluate("e => getComputedStyle(e).color") == "rgb(255, 255, 255)"
    )


def test_images_reduced_to_head_means_are_shown(browser, tmp_path):
    images, model = made_images(2), made_model(2)
    whole = blob_bytes(render_explorer(images, [model], budget_bytes=BUDGET)[0])
    fragment, notes = render_explorer(images, [model], budget_bytes=whole - 1)
    file = tmp_path / "means.html"
    file.write_text(f"<!doctype html><meta charset='utf-8'><body>{fragment}</body>", encoding="utf-8")
    page = Page(browser, file, [])
    heads = page.page.locator(".panel >> nth=0 >> .heads button")
    assert heads.all_inner_texts() == ["mean", "1", "2", "3"]
    heads.nth(2).click()
    page.page.locator("[data-image='1']").click()
    assert heads.all_inner_texts() == ["mean"]
    row = page.page.evaluate("explorer.row(0)")
    wanted = made_attention("random").mean(0)[PREFIX + page.panel(0)["patch"], PREFIX:]
    assert np.abs(row - wanted).max() <= wanted.max() / 255 + 1e-6
    assert all(page.page.get_by_text(note).is_visible() for note in notes)
    page.close()
