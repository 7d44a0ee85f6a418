"""Pictures of attention: what a query token attends to, laid over the image it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Picture = npt.NDArray[np.uint8]

QUERY_COLOUR = (0, 255, 160)


def example_queries(image: Picture, grid: tuple[int, int]) -> dict[str, int]:
    """Choose three query tokens to show: one on the foreground, one near it and one on the background.

    Foreground is the hottest patch of a white-hot frame, background the coldest; the one nearby is two patches
    from the hottest, towards the middle of the image.

    Args:
        image: Grey (H, W).
        grid: Patch rows and columns.

    Returns:
        Patch numbers (row-major, prefix tokens not counted) by name.
    """
    means = np.asarray(Image.fromarray(image).resize((grid[1], grid[0]), Image.Resampling.BOX)).astype(float).ravel()
    hottest = int(means.argmax())
    top, left = divmod(hottest, grid[1])
    near = min(max(top + (2 if top < grid[0] / 2 else -2), 0), grid[0] - 1), left
    return {"foreground": hottest, "nearby": near[0] * grid[1] + near[1], "background": int(means.argmin())}


def attention_picture(image: Picture, row: npt.NDArray[np.floating], query: int | None = None) -> Picture:
    """Lay one query's attention over an image.

    Args:
        image: Grey (H, W), or RGB (H, W, 3).
        row: Attention to each patch (rows, columns), any scale; shown relative to its largest value.
        query: Patch number of the query, framed in green; None frames nothing.

    Returns:
        RGB (H, W, 3).
    """
    height, width = image.shape[:2]
    share = row / max(float(row.max()), 1e-12)
    levels = Image.fromarray((share * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    colour = matplotlib.colormaps["inferno"](np.asarray(levels))[..., :3] * 255
    weight = 0.25 + 0.65 * np.asarray(levels, dtype=float)[..., None] / 255
    blended = Image.fromarray((colour * weight + _rgb(image) * (1 - weight)).astype(np.uint8))
    if query is not None:
        top, left = divmod(query, row.shape[1])
        side_y, side_x = height / row.shape[0], width / row.shape[1]
        box = (left * side_x, top * side_y, (left + 1) * side_x - 1, (top + 1) * side_y - 1)
        ImageDraw.Draw(blended).rectangle(box, outline=QUERY_COLOUR, width=max(1, round(height / 112)))
    return np.asarray(blended)


def patch_rows(
    attention: npt.NDArray[np.floating], queries: Sequence[int], prefix: int, grid: tuple[int, int]
) -> npt.NDArray[np.floating]:
    """Take the attention of some patch queries to all patches.

    Args:
        attention: One map (L, L), prefix tokens first.
        queries: Patch numbers.
        prefix: Class and register tokens before the patches.
        grid: Patch rows and columns.

    Returns:
        (queries, rows, columns).
    """
    return attention[[prefix + query for query in queries], prefix:].reshape(-1, *grid)


def query_sheet(
    images: Sequence[Picture], queries: Sequence[dict[str, int]], columns: Mapping[str, npt.NDArray[np.floating]]
) -> Picture:
    """Draw what example queries attend to, side by side in several columns (layers or models).

    Args:
        images: Grey (H, W) each, or RGB (H, W, 3).
        queries: For each image its patch numbers by name.
        columns: For each heading the attention to each patch, (images, queries, rows, columns).

    Returns:
        RGB, a row for each image and query.
    """
    rows, labels = [], []
    for number, (image, named) in enumerate(zip(images, queries, strict=True)):
        for place, (name, query) in enumerate(named.items()):
            maps = [attention_picture(image, attention[number, place], query) for attention in columns.values()]
            rows.append([_rgb(image), *maps])
            labels.append(name)
    return sheet(rows, columns=["image", *columns], labels=labels)


def sheet(rows: Sequence[Sequence[Picture]], *, columns: Sequence[str], labels: Sequence[str]) -> Picture:
    """Tile equally large RGB pictures into a labelled sheet.

    Args:
        rows: Pictures (H, W, 3), row by row.
        columns: A heading per column.
        labels: A label per row.

    Returns:
        RGB, dark background.
    """
    height, width = rows[0][0].shape[:2]
    gap, top, left = 4, 22, 110
    page = Image.new("RGB", (left + len(columns) * (width + gap), top + len(rows) * (height + gap)), (24, 24, 27))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for index, heading in enumerate(columns):
        draw.text((left + index * (width + gap) + 4, 4), heading, fill=(235, 235, 235), font=font)
    for number, (pictures, label) in enumerate(zip(rows, labels, strict=True)):
        y = top + number * (height + gap)
        draw.multiline_text((6, y + 4), label.replace(", ", ",\n"), fill=(235, 235, 235), font=font)
        for index, picture in enumerate(pictures):
            page.paste(Image.fromarray(picture), (left + index * (width + gap), y))
    return np.asarray(page)


def _rgb(image: Picture) -> Picture:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
