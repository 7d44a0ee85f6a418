"""The pictures of docs/families.md. All maps have one colour scale, and every query token is framed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont

from families_measuring import (
    SIDE,
    Family,
    Floats,
    Focus,
    ImageSet,
    Row,
    Settings,
    object_share,
    open_masks,
    patch_attention,
)
from unip.analysis.inputs import model_input
from unip.analysis.samples import draw_sample, list_files
from unip.analysis.style import INK, PATTERN_COLOURS, STYLE, Figure
from unip.attention.patterns import GLOBAL_BELOW, HYBRID_NMI, LOCAL_ABOVE
from unip.attention.pictures import QUERY_COLOUR, example_queries
from unip.data.synthetic.generator import SCENE_CLASSES, generate_scene
from unip.vit.backbone import Backbone

Rows = Mapping[tuple[str, str], Row]  # by set and family
Foci = Mapping[tuple[str, str], Focus]
Picture = npt.NDArray[np.uint8]

GRID = 14  # patches along a side, by which queries are chosen
MAP = 112  # pixels of a map: whole ones for each patch of 14 x 14 and of 16 x 16
DARKEST, BRIGHTEST = 1 / 4, 16  # times even attention
EDGE = 2  # patches in which no background token is chosen
COVERED = 0.3  # share of a patch from which on it is outlined as an object's
SCENE_SEED = 7
SCENE_OBJECTS = ("person", "vehicle")


@dataclass(frozen=True)
class Shown:
    """A frame and the tokens that are looked at in all models; places are rows and columns of ``GRID``."""

    square: Picture  # (SIDE, SIDE)
    queries: dict[str, tuple[int, int]]
    objects: Floats | None  # share of each patch (GRID, GRID)


@rc_context(STYLE)
def draw_layers(path: Path, families: Sequence[Family], sets: Sequence[ImageSet], rows: Rows, foci: Foci) -> None:
    """Draw measures of attention and features by layer, a row for each and a column for each set."""
    kinds = {
        "nmi": "NMI",
        "distance": "attention distance\n(share of the diagonal)",
        "sinks": "attention on the\n5 % most attended (%)",
        "lift": "attention on distant\nobjects (1: even)",
        "high_frequency": "high-frequency\namplitude (Δ log)",
    }
    figure = Figure(figsize=(10.5, 11.5), layout="constrained")
    grid = figure.subplots(len(kinds), len(sets), sharex=True, sharey="row", squeeze=False)
    for line, (name, label) in zip(grid, kinds.items(), strict=True):
        for axes, images in zip(line, sets, strict=True):
            by = {family: (rows[images.key, family.key], foci[images.key, family.key]) for family in families}
            _draw_lines(axes, [(family, layers_of(*both, name)) for family, both in by.items()])
            if name == "nmi":
                axes.set_title(images.label)
                axes.axhspan(GLOBAL_BELOW, LOCAL_ABOVE, color=PATTERN_COLOURS["hybrid"], alpha=0.1, linewidth=0)
            level = {"nmi": HYBRID_NMI, "sinks": 5, "lift": 1}.get(name)
            if level is not None and (name != "lift" or images.labelled):
                axes.axhline(level, color=INK, linestyle="--", linewidth=0.8)
            if name == "lift" and not images.labelled:
                axes.axis("off")
                axes.text(0.5, 0.5, "no masks", ha="center", va="center", transform=axes.transAxes, alpha=0.6)
        line[0].set_ylabel(label)
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    grid[0][0].set_xticks(range(1, max(len(row.nmi) for row in rows.values()) + 1))
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, handlelength=2)
    save(path, figure)


def layers_of(row: Row, focus: Focus, name: str) -> list[float]:
    """Return a measure by layer, attention on sinks in percent."""
    values: list[float] = getattr(focus if name in ("near", "sinks", "lift") else row, name)
    return [100 * value for value in values] if name == "sinks" else values


def _draw_lines(axes: Axes, lines: Sequence[tuple[Family, Sequence[float]]]) -> None:
    axes.grid(True)
    for number, (family, values) in enumerate(lines):
        if values:
            style = "--" if family.key == "random" else "-"
            axes.plot(
                range(1, len(values) + 1), values, style, color=family.colour, marker="os^DvPX"[number % 7],
                markersize=4.5, linewidth=1.5, label=family.label,
            )  # fmt: skip


@rc_context(STYLE)
def draw_patterns(path: Path, families: Sequence[Family], sets: Sequence[ImageSet], rows: Rows) -> None:
    """Draw the pattern of every layer with its NMI; the layer to distil is framed, that of the best probe starred."""
    figure = Figure(figsize=(10.5, 0.7 + 0.36 * len(families) * len(sets) + 0.3 * len(sets)), layout="constrained")
    for axes, images in zip(figure.subplots(len(sets), 1, squeeze=False)[:, 0], sets, strict=True):
        for line, family in enumerate(families):
            row = rows[images.key, family.key]
            best = int(np.argmax(row.miou)) + 1 if row.miou else None
            for layer, (nmi, pattern) in enumerate(zip(row.nmi, row.patterns, strict=True), 1):
                faded = 0.45 if layer in family.exclude else 1.0
                colour = PATTERN_COLOURS[pattern]
                axes.add_patch(Rectangle((layer - 0.47, line - 0.42), 0.94, 0.84, facecolor=colour, alpha=faded))
                text = f"{nmi:.3f}".removeprefix("0") + (" ★" if layer == best else "")
                axes.text(
                    layer, line, text, ha="center", va="center", color="white", fontsize=7.5, family="DejaVu Sans"
                )
            if row.chosen:
                frame = (row.chosen - 0.47, line - 0.42)
                axes.add_patch(Rectangle(frame, 0.94, 0.84, fill=False, edgecolor=INK, linewidth=2.2))
        axes.set(ylim=(len(families) - 0.45, -0.55), title=images.label)
        deepest = max(len(rows[images.key, family.key].nmi) for family in families)
        axes.set_xlim(0.4, deepest + 0.6)
        axes.set_xticks(range(1, deepest + 1))
        axes.set_yticks(range(len(families)), [family.label for family in families])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    keys = [Rectangle((0, 0), 1, 1, facecolor=colour) for colour in PATTERN_COLOURS.values()]
    figure.legend(keys, list(PATTERN_COLOURS), loc="outside lower center", ncols=3, handlelength=1, handleheight=1)
    save(path, figure)


@rc_context(STYLE)
def draw_probes(path: Path, families: Sequence[Family], sets: Sequence[ImageSet], rows: Rows) -> None:
    """Draw each layer's probe above its NMI, a column for each model, on the colours of the patterns."""
    probed = [images for images in sets if images.labelled]
    figure = Figure(figsize=(1.55 * len(families) + 0.6, 3.1 * len(probed)), layout="constrained")
    heights = [1.5, 1] * len(probed)
    grid = figure.subplots(
        2 * len(probed), len(families), sharex=True, sharey="row", squeeze=False, height_ratios=heights
    )
    for number, images in enumerate(probed):
        upper, lower = grid[2 * number], grid[2 * number + 1]
        for top, bottom, family in zip(upper, lower, families, strict=True):
            row = rows[images.key, family.key]
            layers = range(1, len(row.nmi) + 1)
            for layer, pattern in zip(layers, row.patterns, strict=True):
                for axes in (top, bottom):
                    axes.axvspan(layer - 0.5, layer + 0.5, color=PATTERN_COLOURS[pattern], alpha=0.2, linewidth=0)
            best = int(np.argmax(row.miou)) + 1
            top.plot(layers, row.miou, color=family.colour, marker="o", markersize=3)
            top.plot(best, row.miou[best - 1], "*", markersize=12, color=family.colour)
            top.annotate(
                f"{row.miou[best - 1]:.1f}", (best, row.miou[best - 1]), (0, 6), textcoords="offset points",
                ha="center", fontsize=8,
            )  # fmt: skip
            bottom.plot(layers, row.nmi, color=family.colour, marker="o", markersize=3)
            if row.chosen:
                bottom.plot(row.chosen, row.nmi[row.chosen - 1], "o", markersize=10, fillstyle="none", color=INK)
            if not number:
                top.set_title(family.label, fontsize=9)
        upper[0].set_ylabel(f"{images.label}\nmIoU (%)")
        lower[0].set_ylabel("NMI")
        low, high = upper[0].get_ylim()
        upper[0].set_ylim(low, high + 0.12 * (high - low))
        lower[0].set_ylim(bottom=0)
    grid[0][0].set_xticks(range(2, max(len(row.nmi) for row in rows.values()) + 1, 2))
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    keys = [Rectangle((0, 0), 1, 1, facecolor=colour, alpha=0.3) for colour in PATTERN_COLOURS.values()]
    figure.legend(keys, list(PATTERN_COLOURS), loc="outside lower center", ncols=3, handlelength=1, handleheight=1)
    save(path, figure)


def save(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG of 256 colours."""
    figure.savefig(path, format="png", dpi=110)
    with Image.open(path) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def draw_maps(path: Path, models: Sequence[tuple[Family, Backbone]], images: ImageSet, settings: Settings) -> None:
    """Draw what two tokens of one frame attend to in every layer of every model, without the frame."""
    shown = choose_frame(models[0][0], images, settings)
    attention = attention_of(models, shown, settings)
    depth = max(len(maps) for maps in attention.values())
    left, top, gap = 190, 34, 3
    step = MAP + gap
    block = top + len(models) * step + 12
    page = Image.new("RGB", (left + depth * step, len(shown.queries) * block + 46), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(17)
    for place, (name, query) in enumerate(shown.queries.items()):
        y = place * block
        pen.text((6, y + 8), f"query: {name}", fill=INK, font=ImageFont.load_default(19))
        for layer in range(1, depth + 1):
            pen.text((left + (layer - 1) * step + MAP / 2, y + 8), f"layer {layer}", fill=INK, font=font, anchor="ma")
        for line, (family, _) in enumerate(models):
            pen.text((6, y + top + line * step + MAP / 2), family.label, fill=family.colour, font=font, anchor="lm")
            for layer, rows in enumerate(attention[family.key], 1):
                objects = shown.objects if images.outlines else None
                picture = map_picture(rows, query, objects)
                page.paste(picture, (left + (layer - 1) * step, y + top + line * step))
    _draw_scale(page, left, page.height - 34)
    page.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def draw_scene(
    path: Path, models: Sequence[tuple[Family, Backbone]], rows: Rows, settings: Settings, images: ImageSet
) -> None:
    """Draw three layers of every model over a made frame: of the NMI peak on a set, of the choice there, the last."""
    shown = made_frame()
    attention = attention_of(models, shown, settings)
    side, gap, left, top = 148, 4, 130, 30
    step = side + gap
    kinds = ("NMI peak", "NMI's choice", "last layer")
    page = Image.new("RGB", (left + (1 + len(models)) * step, top + 2 * len(kinds) * step + 46), "white")
    pen, font, small = ImageDraw.Draw(page), ImageFont.load_default(15), ImageFont.load_default(14)
    for column, (family, _) in enumerate(models, 1):
        x = left + column * step + side / 2
        pen.text((x, 8), family.label, fill=family.colour, font=small, anchor="ma")
    frame = np.repeat(shown.square[..., None], 3, 2)
    for number, (name, query) in enumerate(shown.queries.items()):
        for line, kind in enumerate(kinds):
            y = top + (number * len(kinds) + line) * step
            pen.multiline_text((6, y + side / 2 - 16), f"{name}\n{kind}", fill=INK, font=font)
            _paste(page, framed(frame, query, GRID), (left, y), side)
            for column, (family, _) in enumerate(models, 1):
                row = rows[images.key, family.key]
                peak = int(np.argmax(row.nmi)) + 1
                layer = (peak, row.chosen or peak, len(row.nmi))[line]
                laid = overlay(frame, attention[family.key][layer - 1], query)
                _paste(page, laid, (left + column * step, y), side)
                pen.text((left + column * step + 5, y + 3), f"{layer}", fill="white", font=small, stroke_width=2,
                         stroke_fill="black")  # fmt: skip
    _draw_scale(page, left, page.height - 34)
    page.save(path, quality=82, optimize=True)


def _paste(page: Image.Image, picture: Picture, place: tuple[int, int], side: int) -> None:
    page.paste(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS), place)


def _draw_scale(page: Image.Image, x: int, y: int) -> None:
    """Draw the colours of attention, from ``DARKEST`` to ``BRIGHTEST`` times even attention."""
    width = 560
    values = np.geomspace(DARKEST, BRIGHTEST, width)[None].repeat(12, 0)
    page.paste(Image.fromarray(colours(values)), (x, y))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for times in (0.25, 0.5, 1, 2, 4, 8, 16):
        at = x + width * np.log(times / DARKEST) / np.log(BRIGHTEST / DARKEST)
        pen.text((at, y + 14), f"{times:g}", fill=INK, font=font, anchor="ma")
    pen.text((x + width + 14, y - 2), "times even attention; green: the query token", fill=INK, font=font)


def colours(values: Floats) -> Picture:
    """Return RGB of attention in times of even attention, on a logarithmic scale."""
    level = np.log(np.maximum(values, 1e-9) / DARKEST) / np.log(BRIGHTEST / DARKEST)
    return np.asarray(matplotlib.colormaps["inferno"](np.clip(level, 0, 1))[..., :3] * 255, dtype=np.uint8)


def map_picture(attention: Floats, query: tuple[int, int], objects: Floats | None) -> Image.Image:
    """Draw one map with its query framed, and with the patches of objects outlined where they may be.

    Args:
        attention: Of each query place of ``GRID`` x ``GRID`` to each patch, (GRID, GRID, side, side).
        query: Its place.
        objects: Share of each patch that objects cover (GRID, GRID), or None.
    """
    values = attention[query]
    picture = np.kron(
        colours(values).transpose(2, 0, 1), np.ones((1, MAP // len(values), MAP // len(values)), np.uint8)
    )
    laid = framed(picture.transpose(1, 2, 0), query, len(values))
    image = Image.fromarray(laid)
    if objects is not None:
        pen, cell = ImageDraw.Draw(image), MAP / GRID
        inside = np.pad(objects >= COVERED, 1)
        for top, left in np.argwhere(inside[1:-1, 1:-1]):
            x, y = left * cell, top * cell
            for there, line in (
                (inside[top, left + 1], (x, y, x + cell, y)),
                (inside[top + 2, left + 1], (x, y + cell, x + cell, y + cell)),
                (inside[top + 1, left], (x, y, x, y + cell)),
                (inside[top + 1, left + 2], (x + cell, y, x + cell, y + cell)),
            ):
                if not there:
                    pen.line(line, fill="white", width=1)
    return image


def overlay(frame: Picture, attention: Floats, query: tuple[int, int]) -> Picture:
    """Lay a map over a frame: the more attention, the less of the frame is seen."""
    values = attention[query]
    side = len(frame) // len(values)
    enlarged = np.kron(values, np.ones((side, side)))
    level = np.clip(np.log(np.maximum(enlarged, 1e-9) / DARKEST) / np.log(BRIGHTEST / DARKEST), 0, 1)[..., None]
    weight = 0.15 + 0.7 * level
    return framed((colours(enlarged) * weight + frame * (1 - weight)).astype(np.uint8), query, len(values))


def framed(picture: Picture, query: tuple[int, int], side: int) -> Picture:
    """Frame the patch of a query, whose place is one of ``GRID`` x ``GRID``, on a grid of ``side`` patches."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    cell = len(picture) / side
    top, left = (place_on(place, side) * cell for place in query)
    box = (left - 1, top - 1, left + cell, top + cell)
    ImageDraw.Draw(image).rectangle(box, outline=QUERY_COLOUR, width=2)
    return np.asarray(image)


def place_on(place: int, side: int) -> int:
    """Return the patch of ``side`` that holds the centre of a patch of ``GRID``."""
    return int((place + 0.5) / GRID * side)


def attention_of(
    models: Sequence[tuple[Family, Backbone]], shown: Shown, settings: Settings
) -> dict[str, list[Floats]]:
    """Return, of each model and layer, attention in times of even attention from places of ``GRID`` to patches.

    Returns:
        By family and layer (GRID, GRID, side, side).
    """
    found = {}
    for family, backbone in models:
        config = settings.of(family, ImageSet("scene", "", "", ""))
        pixels = model_input(config, backbone, [torch.from_numpy(shown.square.copy())[None]])
        maps = patch_attention(backbone.model.eval(), pixels)
        side = round(len(maps[0]) ** 0.5)
        queries = [place_on(top, side) * side + place_on(left, side) for top in range(GRID) for left in range(GRID)]
        found[family.key] = [rows[queries].reshape(GRID, GRID, side, side) * side**2 for rows in maps]
    return found


def choose_frame(family: Family, images: ImageSet, settings: Settings) -> Shown:
    """Choose a frame and two tokens of it by a rule, the same for all models.

    With masks: of the measured frames the one of which objects cover nearest to 8 %; the token that an object covers
    most, and the one farthest from all objects. Without: the middle frame; its hottest and its coldest token.
    """
    config = settings.of(family, images)
    sample = draw_sample(config, list_files(config)[0], [SIDE])
    squares = [square[0].numpy() for square in sample.squares["images"][SIDE]]
    if not images.labelled:
        square = squares[len(squares) // 2]
        named = example_queries(square, (GRID, GRID))
        places = {"hottest": divmod(named["foreground"], GRID), "coldest": divmod(named["background"], GRID)}
        return Shown(square, places, None)
    labelled = open_masks(config, images)
    shares = [object_share(labelled, name, images.foreground, GRID) for name in sample.names]
    chosen = int(np.argmin([abs(share.mean() - 0.08) for share in shares]))
    return Shown(squares[chosen], queries_of(shares[chosen]), shares[chosen])


def queries_of(objects: Floats) -> dict[str, tuple[int, int]]:
    """Choose the token that an object covers most, and the one that is farthest from all objects, not at the edge."""
    places = np.argwhere(objects > 0)
    inside = np.argwhere(np.pad(np.ones((GRID - 2 * EDGE, GRID - 2 * EDGE)), EDGE))
    apart = np.linalg.norm(inside[:, None] - places[None], axis=-1).min(1)
    top, left = inside[apart.argmax()].tolist()
    return {"object": divmod(int(objects.argmax()), GRID), "background": (top, left)}


def made_frame() -> Shown:
    """Make a synthetic scene, which may be shown."""
    scene = generate_scene(SCENE_SEED, (448, 448))
    square = np.asarray(Image.fromarray(scene.thermal8).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    ids = [number for number, name in enumerate(SCENE_CLASSES) if name in SCENE_OBJECTS]
    covered = Image.fromarray(np.isin(scene.mask, ids).astype(np.float32))
    objects = np.asarray(covered.resize((GRID, GRID), Image.Resampling.BOX), dtype=np.float64)
    return Shown(square, queries_of(objects), objects)
