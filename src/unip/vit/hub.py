"""Architectures by timm's names, and their weights from the Hugging Face hub or its local cache."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import HfApi, constants, hf_hub_download, scan_cache_dir
from huggingface_hub import errors as hub_errors
from timm.models import PretrainedCfg, get_pretrained_cfg, is_model_in_modules

from unip.errors import UnipError
from unip.files import read_json
from unip.paths import is_dir
from unip.vit.architecture import BackboneSpec, read_spec
from unip.vit.normalisation import Preprocessing
from unip.vit.sources import Source, parse_source
from unip.vit.spec import DENSE_ARGUMENTS, not_plain

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# Arguments that a hub model's config may carry and that a feature backbone sets itself or has no use for; they are
# left out. What is neither here nor in unip.vit.arguments is refused.
_NOT_SHAPE = (
    *("num_classes", "in_chans", "global_pool", "fc_norm", "use_fc_norm", "dynamic_img_size", "dynamic_img_pad"),
    *("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"),
    *("weight_init", "fix_init", "head_init_scale"),
)


def timm_model(name: str) -> tuple[BackboneSpec, PretrainedCfg]:
    """Look up a timm name.

    Args:
        name: ``NAME`` or ``NAME.TAG``.

    Returns:
        The architecture and timm's description of the (default) tag's weights.

    Raises:
        UnipError: timm knows no such model or tag (near ones are named), or it is not a plain ViT.
    """
    architecture, _, tag = name.partition(".")
    plain = timm.list_models(module=list(DENSE_ARGUMENTS))
    if not timm.is_model(architecture):
        raise UnipError(f"timm {timm.__version__} has no model {architecture!r}", _near(architecture, plain))
    if not is_model_in_modules(architecture, set(DENSE_ARGUMENTS)):
        raise not_plain(architecture)
    try:
        described = get_pretrained_cfg(name)
    except RuntimeError:
        known = timm.list_models(f"{architecture}.*", include_tags=True)
        tags = [k.partition(".")[2] for k in known if k.partition(".")[0] == architecture]
        raise UnipError(f"timm's {architecture} has no weights {tag!r}", f"Known: {', '.join(tags)}.") from None
    if described is None:
        raise UnipError(f"timm has renamed {architecture!r}", _near(architecture, plain))
    return BackboneSpec(timm_name=architecture, arguments={"img_size": _size(described.input_size, name)}), described


def timm_weights(name: str, cfg: PretrainedCfg) -> Path:
    """Return the local file of a timm model's pretrained weights, downloaded if it is not in the cache.

    timm's own ``pretrained=True`` names the same files, but loads some of them with the unsafe unpickler in its
    older releases and does not say which keys stayed random; so the file is fetched and read here.

    Args:
        name: ``NAME`` or ``NAME.TAG``, for messages.
        cfg: timm's description of the weights.

    Raises:
        UnipError: There are no such weights, or the hub cannot be reached.
    """
    remedy = f"Download the weights elsewhere and give the file: timm:{name}@FILE."
    repository = cfg.hf_hub_id
    if not repository or cfg.custom_load == "hf":
        raise UnipError(f"timm has no weights of {name} that can be fetched from the hub", remedy)
    files = (cfg.hf_hub_filename,) if cfg.hf_hub_filename else WEIGHT_FILES
    return _fetch(parse_source(f"hf:{repository}"), files, remedy)


def hub_model(source: Source) -> tuple[BackboneSpec, Preprocessing, Path]:
    """Look up a timm model in a Hugging Face repository.

    Args:
        source: Of the kind ``hf``.

    Returns:
        The architecture, the weights' preprocessing, and their local file.

    Raises:
        UnipError: The hub cannot be reached, there is no such repository, or it holds no timm plain ViT.
    """
    remedy = "Download its weights elsewhere and give the file: timm:NAME@FILE."
    file, repository = _fetch(source, ("config.json",), remedy), source.repository
    config = read_json(file)
    architecture = config.get("architecture") if isinstance(config, dict) else None
    if not isinstance(architecture, str):
        raise UnipError(f"hf:{repository} is not a timm model: its config.json names none", remedy)
    spec, _ = timm_model(architecture)
    cfg = config.get("pretrained_cfg", config)  # older files have one level only
    arguments = config.get("model_args") or {}
    if not isinstance(cfg, dict) or not isinstance(arguments, dict):
        raise UnipError(f"hf:{repository}: pretrained_cfg and model_args of its config.json are not as timm's", remedy)
    shape = {key: value for key, value in arguments.items() if key not in _NOT_SHAPE}
    place = f"hf:{repository} ({file})"
    size = _size(cfg.get("input_size", (3, 224, 224)), place)
    spec = read_spec({"timm_name": spec.timm_name, "arguments": {"img_size": size, **shape}}, place)
    return spec, Preprocessing().updated(cfg), _fetch(source, WEIGHT_FILES, remedy)


def hub_file(source: Source) -> Path:
    """Return the local path of the one checkpoint of a repository whose name fits the source's pattern.

    Args:
        source: Of the kind ``hub file``.

    Raises:
        UnipError: The hub cannot be reached and no such file is in the cache, or not exactly one fits.
    """
    remedy = "Download the file elsewhere and give its path."
    try:
        names = HfApi().list_repo_files(source.name)
    except Exception as error:  # whatever the HTTP library of this hub client raises without a network
        names = _cached_files(source.name)
        if not names:
            raise UnipError(f"the hub could not be reached for {source.name}", remedy) from error
    fitting = [name for name in names if re.fullmatch(source.pattern, name.rpartition("/")[2])]
    if len(fitting) != 1:
        listed = ", ".join((fitting or names)[:12])
        what = f"{len(fitting)} files of hf:{source.name} could be the one" if fitting else "no file fits"
        raise UnipError(f"hf:{source.name}: {what}: {listed}", remedy)
    return _fetch(source, (fitting[0],), remedy)


def _cached_files(repository: str) -> list[str]:
    """Return the files of a repository that are in the local cache, newest state first."""
    found = (
        [repo for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos if repo.repo_id == repository]
        if _has_cache()
        else []
    )
    revisions = sorted((r for repo in found for r in repo.revisions), key=lambda r: r.last_modified, reverse=True)
    return (
        [file.file_path.relative_to(revisions[0].snapshot_path).as_posix() for file in revisions[0].files]
        if revisions
        else []
    )


def _has_cache() -> bool:
    return is_dir(constants.HF_HUB_CACHE)


def _fetch(source: Source, files: tuple[str, ...], remedy: str) -> Path:
    """Return the local path of the first of ``files`` that the repository has."""
    repository = source.repository
    unreachable: Exception | None = None
    for file in files:
        try:
            offline = unreachable is not None  # asked once: the client's own retries take half a minute
            return Path(hf_hub_download(source.name, file, revision=source.revision, local_files_only=offline))
        except hub_errors.LocalEntryNotFoundError as error:
            unreachable = error  # perhaps another of the files is in the cache
        except hub_errors.EntryNotFoundError:
            continue
        except (hub_errors.RepositoryNotFoundError, hub_errors.RevisionNotFoundError) as error:
            raise UnipError(f"the hub has no {repository}, or it needs a login", remedy) from error
        except hub_errors.HFValidationError as error:
            raise UnipError(f"hf:{repository} is not a repository name", "Give hf:OWNER/NAME.") from error
        except Exception as error:  # whatever the HTTP library of this hub client raises without a network
            unreachable = error
    if unreachable is not None:
        raise UnipError(f"the hub could not be reached for {repository}", remedy) from unreachable
    raise UnipError(f"hf:{repository} holds none of {', '.join(files)}", remedy)


def _size(input_size: Any, place: str) -> int | list[int]:
    try:
        _, height, width = (int(side) for side in input_size)
    except (TypeError, ValueError) as error:
        raise UnipError(f"{place}: input_size is {input_size!r}, not [channels, height, width]") from error
    return height if height == width else [height, width]


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"Did you mean {', '.join(near)}?" if near else "timm.list_models('*vit*') shows the names."
