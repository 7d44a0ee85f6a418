"""One way to get a backbone with its weights and its preprocessing, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from unip.documents import parse_json
from unip.errors import UnipError
from unip.paths import is_dir
from unip.vit.architecture import BackboneSpec, read_spec
from unip.vit.hub import hub_file, hub_model, timm_model, timm_weights
from unip.vit.infer import infer_spec
from unip.vit.normalisation import INFMIX_RGB, Preprocessing
from unip.vit.size import RESIZED_NUMBERS, SLACK, check_size
from unip.vit.sources import SEGMENTER_FORMAT, WEIGHTS_NAME, find_source, read_model_folder
from unip.vit.spec import build_backbone
from unip.vit.student import student_spec
from unip.vit.weights import Checkpoint, LoadReport, load_into, read_checkpoint


@dataclass
class Backbone:
    """A backbone and what it needs to be used.

    Attributes:
        model: The timm ViT, ``(B, 3, H, W)`` float32 in.
        spec: What rebuilds it.
        mean: Channel means to subtract from RGB in 0..1.
        std: Channel deviations to divide by.
        input_size: Side in pixels of the square images it was trained on.
        source: Where it came from, as it was asked for.
        report: What of its weights fitted; None when they are random.
    """

    model: nn.Module
    spec: BackboneSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: int
    source: str
    report: LoadReport | None = None


@dataclass(frozen=True)
class _Origin:
    """What a source was resolved to: the architecture, its preprocessing and its weights, unless they are random."""

    spec: BackboneSpec
    preprocessing: Preprocessing
    weights: Checkpoint | None


def load_backbone(
    source: str, *, drop_path: float = 0.0, random_weights: bool = False, patch: int | None = None
) -> Backbone:
    """Build the backbone that ``source`` names and load its weights.

    Args:
        source: A name of the zoo, ``timm:NAME[.TAG]`` (weights from the hub), ``timm:NAME[.TAG]@FILE`` (weights from a
            local file of any layout), ``hf:OWNER/NAME[@REVISION]`` (a timm model there), a checkpoint
            file of a plain ViT, a model folder or run folder of unip, or a student's name (random weights).
        drop_path: Stochastic depth rate, the same in every block.
        random_weights: Build the architecture only.
        patch: Side of the patches in pixels, if not that of the source: its kernels are resized so that they give the
            same tokens for an enlarged image (FlexiViT: Beyer et al., CVPR 2023, arXiv 2212.08013), its grid of
            positions stays.

    Returns:
        The backbone, in training mode as timm builds it.

    Raises:
        UnipError: The source cannot be found, read or matched; the message says what to do.
    """
    origin = _resolve(source.strip(), random_weights)
    if patch is not None:
        origin = _with_patches(origin, patch)
    if origin.weights is not None and not random_weights:
        numbers = sum(value.numel() for value in origin.weights.state.values())
        check_size(lambda: build_backbone(origin.spec), SLACK * numbers + RESIZED_NUMBERS, str(origin.weights.file))
    model = build_backbone(origin.spec, drop_path=drop_path)
    report = None if origin.weights is None or random_weights else load_into(model, origin.weights)
    told = origin.preprocessing
    mean, std = told.mean, told.std
    if origin.weights is not None and origin.weights.layout == "UNIP":  # these files do not say
        mean, std = INFMIX_RGB
    size: tuple[int, int] = model.patch_embed.img_size  # type: ignore[union-attr,assignment]
    return Backbone(
        model=model,
        spec=origin.spec,
        mean=mean,
        std=std,
        input_size=told.input_size or int(size[0]),
        source=source,
        report=report,
    )


def _with_patches(origin: _Origin, patch: int) -> _Origin:
    """Change the side of the patches; the model is then one of images of as many patches as before."""
    embedding: Any = build_backbone(origin.spec).patch_embed
    rows, columns = embedding.grid_size
    size = rows * patch if rows == columns else [rows * patch, columns * patch]
    arguments = {**origin.spec.arguments, "patch_size": patch, "img_size": size}
    spec = BackboneSpec.make(**{**origin.spec.model_dump(), "arguments": arguments})
    told = replace(origin.preprocessing, input_size=None)
    return replace(origin, spec=spec, preprocessing=told)


def _resolve(source: str, random_weights: bool) -> _Origin:
    found = find_source(source)
    if found.kind == "student":
        return _Origin(student_spec(found.name), Preprocessing(*INFMIX_RGB), None)
    if found.kind == "timm":
        spec, cfg = timm_model(found.name)
        preprocessing, weights = Preprocessing().updated(vars(cfg)), None
        if found.file is not None or not random_weights:
            weights = read_checkpoint(found.file or timm_weights(found.name, cfg))
            if weights.last_heads is not None:
                spec = spec.model_copy(update={"last_heads": weights.last_heads})
            preprocessing = preprocessing.updated(_description(weights, source))
        return _Origin(spec, preprocessing, weights)
    if found.kind == "hf":
        spec, preprocessing, file = hub_model(found)
        return _Origin(spec, preprocessing, read_checkpoint(file))
    if found.kind == "hub file":
        return _from_file(hub_file(found))
    assert found.file is not None
    return _from_folder(found.file) if is_dir(found.file) else _from_file(found.file)


def _from_file(path: Path) -> _Origin:
    weights = read_checkpoint(path)
    described = _description(weights, str(path))
    spec = read_spec(described.get("spec"), f"{path}, its own description") if described else infer_spec(weights)
    return _Origin(spec, Preprocessing().updated(described), weights)


def _description(weights: Checkpoint, source: str) -> dict[str, Any]:
    """Return what a file of unip says about itself; nothing for other files."""
    if "unip" not in weights.metadata:
        return {}
    place = f"{source}: its own description is damaged: it"
    return parse_json(weights.metadata["unip"], place, dict[str, Any], fix="Copy the file again.")


def _from_folder(given: Path) -> _Origin:
    folder, config = read_model_folder(given)
    file = folder / "config.json"
    segmenter = config["format"] == SEGMENTER_FORMAT
    try:
        spec = config["spec"]["backbone"] if segmenter else config["spec"]
        preprocessing = Preprocessing().updated({**config, **config["spec"]} if segmenter else config)
        return _Origin(read_spec(spec, str(file)), preprocessing, read_checkpoint(folder / WEIGHTS_NAME))
    except (KeyError, TypeError) as error:
        raise UnipError(f"{file} is incomplete: {error}", "Save the model again.") from error
