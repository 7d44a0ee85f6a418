"""Put a model into the package: weights in 8 bits, its lineage without paths, and its hash in the catalogue.

    python tools/ship_model.py NAME MODEL_FOLDER LINEAGE.json

LINEAGE.json holds what MODEL_FOLDER's config.json cannot know of weights and data that were given as files: a list of
ancestors, see unip.zoo.lineage.Ancestor.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors import safe_open

from unip.files import write_tensors
from unip.segmentation.calibration import FILE as CALIBRATION
from unip.vit.eight_bit import to_eight_bits
from unip.zoo.catalogue import CATALOGUE, FILES
from unip.zoo.lineage import Lineage, lineage_lines, lineage_record

DROPPED = ("init", "teachers", "sources", "data", "backbone")  # they hold paths; the lineage says it


def main(name: str, model: Path, lineage_file: Path) -> None:
    """Write the folder and the catalogue."""
    lineage = Lineage.make(ancestors=json.loads(lineage_file.read_text(encoding="utf-8")))
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["info"] = {key: value for key, value in config["info"].items() if key not in DROPPED}
    with safe_open(model / "model.safetensors", framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    folder = FILES / name
    folder.mkdir(parents=True, exist_ok=True)
    kept = {key: metadata[key] for key in ("unip", "last_heads")}
    checksum = write_tensors(folder / "model.safetensors", to_eight_bits(tensors), kept)
    (folder / CALIBRATION).unlink(missing_ok=True)  # of other weights; tools/ship_calibration.py makes a new one
    record = {**config, **lineage_record(lineage)}
    (folder / "config.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    entries = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    (entry,) = (entry for entry in entries if entry["name"] == name)
    entry["sha256"] = checksum.sha256
    CATALOGUE.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    card = [f"# {name}", "", entry["summary"], "", f"Licence: {entry['licence']}.", "", *lineage_lines(lineage)]
    (folder / "README.md").write_text("\n".join(card), encoding="utf-8")
    print(f"{folder}: {checksum.size / 1e6:.2f} MB, sha256 {checksum.sha256}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
