"""Put what a shipped model's confidence means into the package, and say on its card on what it was measured.

First, with a copy of the model's folder: ``unip evaluate COPY DATA --split val --calibrate``. Then:

    python tools/ship_calibration.py NAME COPY/calibration.json "DATA, in words, with its licence"
"""

from __future__ import annotations

import sys
from pathlib import Path

from unip.files import read_json
from unip.segmentation.calibration import FILE, Calibration
from unip.zoo.catalogue import FILES

HEADING = "## What its confidence means"


def main(name: str, file: Path, data: str) -> None:
    """Write the file and the card."""
    folder = FILES / name
    found = Calibration.model_validate({**read_json(file, dict[str, object]), "data": data})
    (folder / FILE).write_text(found.model_dump_json() + "\n", encoding="utf-8")
    card = (folder / "README.md").read_text(encoding="utf-8").partition(f"\n{HEADING}")[0].rstrip("\n")
    section = f"Measured on {found.images} images of {data}: temperature {found.temperature:g}. See `{FILE}`."
    (folder / "README.md").write_text(f"{card}\n\n{HEADING}\n\n{section}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
