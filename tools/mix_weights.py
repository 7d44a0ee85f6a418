"""Average the weights of two backbones of one shape, as in WiSE-FT (Wortsman et al., CVPR 2022, arXiv 2109.01903).

    python tools/mix_weights.py START MODEL SHARE OUT

START and MODEL are what --model takes: names, folders, runs. SHARE, 0 to 1, is START's part of each weight. OUT is a
new model folder with START's preprocessing and the lineage of both.
"""

from __future__ import annotations

import sys
from pathlib import Path

from unip.errors import UnipError
from unip.paths import exists
from unip.pretraining.student import average_with_init
from unip.vit.ancestry import ancestors_of
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.zoo.lineage import Lineage


def main(first: str, second: str, share: float, out: Path) -> None:
    """Write the folder.

    Raises:
        UnipError: The shapes differ, or there is something at ``out``.
    """
    if exists(out):
        raise UnipError(f"{out} exists", "Name a new folder.")
    start, model = load_backbone(first), load_backbone(second)
    shapes = [{name: tuple(each.shape) for name, each in one.model.state_dict().items()} for one in (start, model)]
    if shapes[0] != shapes[1] or start.spec.last_heads != model.spec.last_heads:
        raise UnipError(f"{first} and {second} are not of one shape", "Name two trainings of the same architecture.")
    average_with_init(model.model, start.model.state_dict(), share)
    save_backbone(
        model.model,
        start.spec,
        out,
        mean=start.mean,
        std=start.std,
        input_size=start.input_size,
        info={"method": "average of two models' weights (WiSE-FT)", "start": first, "model": second, "share": share},
        lineage=Lineage.of([*ancestors_of(start, "init"), *ancestors_of(model, "init")]),
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
