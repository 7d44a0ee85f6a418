"""Settings about manifests, apart from the code that needs numpy and pyarrow."""

from __future__ import annotations

from typing import Literal

Rule = Literal["near", "chain"]
