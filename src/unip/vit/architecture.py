"""The description of a backbone that files hold, apart from the code that builds it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from unip.config import Config
from unip.errors import UnipError
from unip.vit.arguments import check_arguments


class BackboneSpec(Config):
    """The architecture of a backbone.

    Attributes:
        timm_name: A timm architecture without its weights' tag; None means timm's ``VisionTransformer`` itself.
        arguments: Keyword arguments of that architecture; they may come from files, so only those of
            :mod:`unip.vit.arguments` pass.
        last_heads: Head count of the last block where it is not that of the others; a head is then
            ceil(width / last_heads) channels wide.
        fixed_positions: Positions are fixed 2-D sin-cos ones and random weights are MAE's.
    """

    timm_name: str | None = Field(None, pattern=r"^\w+$")
    arguments: dict[str, Any] = Field(default_factory=dict)
    last_heads: int | None = Field(None, ge=1, strict=True)
    fixed_positions: bool = False

    @field_validator("arguments")
    @classmethod
    def _only_what_shapes_it(cls, values: dict[str, Any]) -> dict[str, Any]:
        check_arguments(values)
        return values


def read_spec(values: Any, place: str) -> BackboneSpec:
    """Build the spec that a file holds.

    Args:
        values: What the file says.
        place: The file, for messages.

    Raises:
        UnipError: It is no spec, or an argument in it is not one that shapes a plain ViT.
    """
    if not isinstance(values, dict):
        raise UnipError(f"{place}: it describes no backbone", "Save the model again.")
    try:
        return BackboneSpec.make(**values)
    except UnipError as error:
        raise UnipError(f"{place}: {error.what}", error.fix) from None
