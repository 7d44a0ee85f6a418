"""Figures as SVG that stands in a page and takes on its light or dark."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import matplotlib.figure
from matplotlib import rc_context

from unip.analysis.style import INK, STYLE

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
SVG = "http://www.w3.org/2000/svg"
LINK = "{http://www.w3.org/1999/xlink}href"


def inline_svg(figure: matplotlib.figure.Figure, *, name: str, label: str) -> str:
    """Return a figure as an ``<svg>`` element to stand in a page.

    It has no background, its text and axes take the page's text colour, it is as wide as what it stands in, and
    nothing in it clashes with another figure of the page.

    Args:
        figure: A figure made in ``STYLE``.
        name: Unique in the page; starts the ids.
        label: What the figure shows, for those who cannot see it.
    """
    buffer = io.BytesIO()
    with rc_context({**STYLE, "svg.hashsalt": name}):  # the salt makes the same figure the same text
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("metadata", "}style")):  # a style in an SVG would hold for the whole page
                parent.remove(child)
    _make_ids_unique(root, name)
    for element in root.iter():
        _shorten(element)
    left, top, width, height = root.get("viewBox", "0 0 1 1").split()
    root.attrib.clear()
    root.attrib |= {
        "viewBox": f"{left} {top} {float(width):g} {float(height):g}",
        "width": "100%",
        "role": "img",
        "aria-label": label,
        "style": f"font-family: {FONTS}; stroke-linejoin: round; stroke-linecap: butt",
    }
    ElementTree.register_namespace("", SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _make_ids_unique(root: ElementTree.Element, name: str) -> None:
    """Start the ids that something refers to with the figure's name, and drop the others."""
    reference = re.compile(r"url\(#([^)]+)\)")
    used = set()
    for element in root.iter():
        if (target := element.attrib.pop(LINK, None)) is not None:
            internal = target.startswith("#")  # else an image's data
            element.set("href", f"#{name}-{target[1:]}" if internal else target)
            used.add(target[1:])
        for key, value in element.items():
            if found := reference.findall(value):
                used.update(found)
                element.set(key, reference.sub(rf"url(#{name}-\1)", value))
    for element in root.iter():
        if (own := element.attrib.pop("id", None)) in used:
            element.set("id", f"{name}-{own}")


def _shorten(element: ElementTree.Element) -> None:
    """Use the page's text colour and font, keep two decimals, and say a style that all children share once."""
    style = element.get("style")
    if style is not None:
        style = re.sub(r"font-family:[^;]*;?\s*", "", style)
        element.set("style", style.replace(INK, "currentColor"))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for key in ("d", "x", "y"):
        if (value := element.get(key)) is not None:
            short = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)
            element.set(key, " ".join(short.split()))
    styles = {child.get("style") for child in element}
    if len(styles) == 1 and len(element) > 1 and element.get("style") is None and None not in styles:
        (shared,) = styles
        element.set("style", str(shared).replace(INK, "currentColor"))
        for child in element:
            del child.attrib["style"]
    if not (element.text or "").strip() and len(element):
        element.text = None
    element.tail = None
