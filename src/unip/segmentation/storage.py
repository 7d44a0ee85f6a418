"""Saving and loading segmentation models as a folder: config.json, model.safetensors, README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from unip.config import describe_validation
from unip.errors import UnipError
from unip.files import write_tensors
from unip.outputs import writing
from unip.paths import status
from unip.segmentation.model import Segmenter, SegmenterSpec, describe_decoder
from unip.segmentation.model_folder import read_model_config, unreadable_weights
from unip.vit.eight_bit import restore
from unip.vit.size import SPARE_NUMBERS, check_size
from unip.vit.sources import SEGMENTER_FORMAT, WEIGHTS_NAME
from unip.vit.spec import last_heads
from unip.zoo.lineage import Lineage, lineage_lines, lineage_record


@dataclass(frozen=True)
class ModelInfo:
    """How a fine-tuned model was made; values that are optional and None are not told.

    Attributes:
        backbone: What it was trained from.
        backbone_sha256: Of the file of its weights, if there is one.
        data: The data set.
        split: Of it.
        remap: Changes of labels.
        labelled_images: How many it was trained on.
        pseudo_images: How many more it was trained on with pseudo-labels, optional.
        pseudo_share: Their share of the crops, optional.
        held_out_images: How many labelled images it was not trained on, to be evaluated on them, optional.
        mode: Full fine-tuning or a linear probe.
        steps: Optimiser steps.
        batch_size: Crops in each.
        lr: The highest learning rate.
        layer_decay: The factor on it per layer towards the input.
        seed: Of the run.
        final_loss: The last that was logged.
        val: The split that the best weights were chosen on, optional.
        best_step: The step that they are of, optional.
        val_miou: Their mIoU, optional.
        freeze_layers: How many layers stayed as they were, optional.
        lora: Rank of adapters, optional.
        continues: The segmentation model whose decoder and classes were trained further, optional.
    """

    backbone: str
    backbone_sha256: str | None
    continues: str | None = field(default=None, kw_only=True)
    data: str
    split: str | None
    remap: tuple[str, ...]
    labelled_images: int
    pseudo_images: int | None = field(default=None, kw_only=True)
    pseudo_share: float | None = field(default=None, kw_only=True)
    held_out_images: int | None = field(default=None, kw_only=True)
    mode: str
    steps: int
    val: str | None = field(default=None, kw_only=True)
    best_step: int | None = field(default=None, kw_only=True)
    val_miou: float | None = field(default=None, kw_only=True)
    batch_size: int
    lr: float
    layer_decay: float
    freeze_layers: int | None = field(default=None, kw_only=True)
    lora: int | None = field(default=None, kw_only=True)
    seed: int
    final_loss: float | None

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        optional = {each.name for each in fields(self) if each.kw_only}
        return {name: value for name, value in vars(self).items() if value is not None or name not in optional}


def save_segmenter(
    segmenter: Segmenter,
    folder: Path,
    *,
    info: Mapping[str, object] | None = None,
    lineage: Lineage | None = None,
) -> None:
    """Write a model folder, whole or not at all; one that is there is replaced.

    Args:
        segmenter: The model; its backbone's tensors are named ``backbone.`` + timm's name.
        folder: Where to.
        info: JSON values about its making (data, settings, scores), kept in config.json and shown in the model card.
        lineage: What it was made from.

    Raises:
        UnipError: The folder cannot be written.
    """
    info = dict(info or {})
    spec = segmenter.spec.model_dump(mode="json")
    record = {"format": SEGMENTER_FORMAT, "spec": spec, "info": info, **lineage_record(lineage)}
    # so that the bare file is read as the backbone it holds, with its heads and its preprocessing
    backbone = {"spec": spec["backbone"], "mean": spec["mean"], "std": spec["std"]}
    metadata = {"unip": json.dumps(backbone), "last_heads": str(last_heads(segmenter.backbone))}
    with writing(folder) as temporary:
        temporary.mkdir()
        (temporary / "config.json").write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(model_card(segmenter.spec, info, lineage), encoding="utf-8")
        write_tensors(temporary / "model.safetensors", segmenter.state_dict(), metadata)


def load_segmenter(path: str | Path) -> Segmenter:
    """Load a model folder, or the ``model/`` of a run folder, in evaluation mode on the CPU.

    Raises:
        UnipError: There is not a segmentation model, or its files are damaged or do not belong together.
    """
    folder, record = read_model_config(Path(path))
    try:
        spec = SegmenterSpec(**record["spec"])
    except ValidationError as error:
        raise UnipError(f"{folder / 'config.json'}: spec: {describe_validation(error)}") from error
    except UnipError as error:  # an unknown setting, an argument that its backbone may not have
        raise UnipError(f"{folder / 'config.json'}: spec: {error.what}", error.fix) from None
    except (KeyError, TypeError) as error:
        raise UnipError(f"{folder / 'config.json'} has no whole `spec`") from error
    weights = folder / WEIGHTS_NAME
    numbers = status(weights).st_size + SPARE_NUMBERS  # each takes a byte at least
    check_size(lambda: Segmenter(spec), numbers, str(weights))
    segmenter = Segmenter(spec)
    try:
        segmenter.load_state_dict(restore(load_file(weights), str(weights)))
    except (OSError, SafetensorError) as error:
        raise unreadable_weights(weights, error) from error
    except RuntimeError as error:  # torch lists the keys and shapes line by line
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise UnipError(f"{weights} does not fit its config.json: {' '.join(lines)}"[:600]) from error
    return segmenter.eval()


def model_card(spec: SegmenterSpec, info: Mapping[str, object], lineage: Lineage | None = None) -> str:
    """Return a model card in Markdown: what it sees, how to run it, how it was made."""
    names = ", ".join(f"{index} {name}" for index, name in enumerate(spec.classes.names))
    layers = ", ".join(map(str, spec.layers))
    decoder = describe_decoder(spec)
    facts = [f"- {key}: {json.dumps(value, default=str)}" for key, value in info.items()]
    return "\n".join(
        [
            "---",
            "library_name: unip",
            "pipeline_tag: image-segmentation",
            "tags: [infrared, thermal, segmentation]",
            "---",
            "",
            "# Infrared segmentation model",
            "",
            f"- Classes: {names}",
            f"- Decoder: {decoder}, from layer {layers} of the backbone",
            f"- Input: any size, resized to short side {spec.short_side}; windows of {spec.crop} every {spec.stride}",
            f"- Counts and temperatures become grey by {spec.conversion.describe()} (before the model)",
            f"- Normalisation: mean {list(spec.mean)}, std {list(spec.std)} of values in 0..1 (inside the model)",
            "",
            "```",
            "unip predict THIS_FOLDER IMAGES",
            "```",
            "",
            *(["## How it was made", "", *facts, ""] if facts else []),
            *lineage_lines(lineage),
        ]
    )
