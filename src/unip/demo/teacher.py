"""Make the demo's teacher file from the run that trained it (see ``recipes/demo_teacher.yaml``)."""

from __future__ import annotations

import sys
from pathlib import Path

from unip.files import sha256, write_tensors, writing
from unip.progress import say
from unip.vit.backbone import load_backbone


def write_teacher(run: Path, file: Path) -> None:
    """Write the backbone of a fine-tuning run as float16 safetensors with timm's names."""
    model = load_backbone(str(run)).model
    with writing(file) as temporary:
        write_tensors(temporary, {name: value.half() for name, value in model.state_dict().items()})
    say(f"{file}: {file.stat().st_size / 1e6:.1f} MB, sha256 {sha256(file)}")


if __name__ == "__main__":
    write_teacher(Path(sys.argv[1]), Path(sys.argv[2]))
