"""What every HTML page needs: its template, and pictures embedded in the page."""

from __future__ import annotations

import base64
import io
from importlib.resources import files

import jinja2
import numpy as np
import numpy.typing as npt
from PIL import Image

WIDTH = 480  # pixels; three pictures a row


def page_template(package: str, name: str) -> jinja2.Template:
    """Load a page's template from a package's data; it escapes values and refuses names it was not given.

    It may include other files of the package, such as a style that pages share.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda file: files(package).joinpath(file).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def data_uri(image: npt.NDArray[np.uint8], width: int = WIDTH) -> str:
    """Return an RGB image ``(H, W, 3)`` as a JPEG data URI, at most ``width`` pixels wide and four times as tall."""
    picture = Image.fromarray(image)
    picture.thumbnail((width, 4 * width))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return file_uri(buffer.getvalue(), "image/jpeg")


def file_uri(content: bytes, kind: str) -> str:
    """Return a whole file as a data URI; ``kind`` is its media type."""
    return f"data:{kind};base64," + base64.b64encode(content).decode("ascii")
