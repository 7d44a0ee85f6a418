"""`unip demo`: the whole story on synthetic scenes, on two CPU cores in a few minutes."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from unip.config import Config, verb


class DemoConfig(Config):
    """How much of the story to run."""

    out: Path = Field(Path("runs/demo"), description="Folder of the scenes, runs and the page.")
    dry_run: bool = Field(False, description="Say what would happen, write nothing.")


@verb(DemoConfig)
def demo(config: DemoConfig) -> None:
    """Run the demo."""
