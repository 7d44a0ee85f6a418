"""What a loaded model says of itself, as text and in a notebook."""

from __future__ import annotations

from html import escape

from unip.deployment.engine import ModelFacts

SWATCH = "display:inline-block;width:.8em;height:.8em;border:1px solid;background:rgb({},{},{})"
LEFT = 'style="text-align:left"'  # notebooks put numbers, and so all cells, to the right


def describe(facts: ModelFacts) -> dict[str, str]:
    """Return what there is to know, by what it is."""
    images = facts.images
    seen = "not known"
    if images is not None:
        channel = "" if images.channel is None else f", channel {images.channel + 1}"
        seen = f"{images.depth}, {images.colours}, {images.size[1]}x{images.size[0]}{channel}"
    sure = "not calibrated"
    if facts.calibration is not None:
        sure = f"calibrated on {facts.calibration.images} images of {facts.calibration.data}"
    return {
        "classes": ", ".join(facts.classes.names),
        "runs": f"with {facts.engine} on {facts.device} in {facts.precision}",
        "trained on": seen,
        "conversion": facts.conversion.describe(),
        "confidence": sure,
    }


def as_text(facts: ModelFacts) -> str:
    """Return the lines that ``print(model)`` shows."""
    return "\n".join([f"Model({facts.name})", *(f"  {what}: {text}" for what, text in describe(facts).items())])


def as_html(facts: ModelFacts) -> str:
    """Return the table that a notebook shows, with the classes' colours."""
    classes = ", ".join(
        f'<span style="{SWATCH.format(*colour)}"></span> {index} {escape(name)}'
        for index, (name, colour) in enumerate(zip(facts.classes.names, facts.classes.palette, strict=True))
    )
    told = {what: escape(text) for what, text in ({"model": facts.name} | describe(facts)).items()}
    rows = (
        f"<tr><th {LEFT}>{what}</th><td {LEFT}>{text}</td></tr>" for what, text in (told | {"classes": classes}).items()
    )
    return f"<table>{''.join(rows)}</table>"
