"""Make the demo's teacher: its random init, and the file that ships (``demo_teacher`` is the recipe)."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from unip.errors import UnipError
from unip.files import sha256
from unip.outputs import writing
from unip.paths import status
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.vit.normalisation import INFMIX_RGB
from unip.vit.spec import build_backbone

log = logging.getLogger(__name__)

#: A ViT between unip_micro and unip_tiny: 16-pixel patches, 128 wide, 8 blocks, 4 heads.
TEACHER = BackboneSpec(
    arguments={"img_size": 160, "patch_size": 16, "embed_dim": 128, "depth": 8, "num_heads": 4}, fixed_positions=True
)


def start_teacher(folder: Path, seed: int = 0) -> None:
    """Write the teacher with random weights as a model folder, for ``unip finetune`` to train."""
    torch.manual_seed(seed)
    mean, std = INFMIX_RGB
    info = {"method": "random weights", "seed": seed}
    save_backbone(build_backbone(TEACHER), TEACHER, folder, mean=mean, std=std, input_size=160, info=info)


def export_teacher(run: Path, file: Path) -> None:
    """Write the backbone of a fine-tuning run as one float16 safetensors file that knows its own shape."""
    backbone = load_backbone(str(run))
    with tempfile.TemporaryDirectory() as folder:
        made = save_backbone(
            backbone.model.half(),
            backbone.spec,
            Path(folder) / "model",
            mean=backbone.mean,
            std=backbone.std,
            input_size=backbone.input_size,
            info={},
        )
        with writing(file) as temporary:
            shutil.copyfile(made / "model.safetensors", temporary)
    log.info(f"{file}: {status(file).st_size / 1e6:.1f} MB, sha256 {sha256(file)}")


def main(arguments: list[str]) -> None:
    """Run ``start FOLDER`` or ``export RUN FILE``."""
    match arguments:
        case ["start", folder]:
            start_teacher(Path(folder))
        case ["export", run, file]:
            export_teacher(Path(run), Path(file))
        case _:
            raise UnipError("use: python -m unip.demonstration.teacher start FOLDER | export RUN FILE")


if __name__ == "__main__":
    main(sys.argv[1:])
