"""Which engine runs what a model is loaded by; torch is imported only for model folders."""

from __future__ import annotations

from pathlib import Path

from unip.deployment.config import LoadConfig
from unip.deployment.engine import Engine
from unip.errors import UnipError
from unip.opening import check_regular
from unip.paths import expand
from unip.segmentation.model_folder import read_model_config

EXPORTED = (".onnx", ".xml", ".pt2")  # what `unip export` writes


def is_exported(path: Path) -> bool:
    """Say whether a path is the name of an exported file, whether or not there is one."""
    return path.suffix.lower() in EXPORTED


def check_model(name: str) -> None:
    """Refuse what is no model folder and no exported file, before anything large is imported.

    Raises:
        UnipError: It is neither, or cannot be read.
    """
    path = expand(name)
    if not is_exported(path):
        read_model_config(path)
        return
    try:
        check_regular(path)
    except OSError as error:
        raise UnipError(f"cannot read {path}: {error.strerror or error}", "Give a file of `unip export`.") from error


def open_engine(name: str, config: LoadConfig) -> Engine:
    """Return the engine for a name of the zoo, a folder, an exported file, or a repository of the hub.

    Raises:
        UnipError: There is no such model, it is damaged, or the device is not there.
    """
    if name.startswith("hf:"):
        from unip.deployment.hub import fetch_folder

        return _torch_engine(fetch_folder(name), config, name)
    check_model(name)
    if is_exported(expand(name)):
        from unip.deployment.engines.exported import open_exported

        return open_exported(name, config)
    return _torch_engine(expand(name), config, name)


def _torch_engine(folder: Path, config: LoadConfig, name: str) -> Engine:
    read_model_config(folder)
    if config.engine != "torch":
        from unip.deployment.engines.accepted import open_accepted

        if (engine := open_accepted(folder, config, name)) is not None:
            return engine
    from unip.deployment.engines.torch_engine import TorchEngine

    return TorchEngine(folder, config, name)
