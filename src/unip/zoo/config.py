"""The settings of `unip models`."""

from __future__ import annotations

from pydantic import Field

from unip.config import Config, NameOrPath


class ModelsConfig(Config):
    """Which models to list, or the one to show."""

    model: NameOrPath | None = Field(
        None, description="A name to show all about, or a run or model folder; none: list the names."
    )
    commercial: bool = Field(
        False, description="Refuse a model whose ancestry does not allow commercial use; of the list, leave such out."
    )
    dry_run: bool = Field(False, description="Only see whether there is such a model, print nothing.")
