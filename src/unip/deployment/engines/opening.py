"""Which engine runs what a model is loaded by; torch is imported only for model folders."""

from __future__ import annotations

from unip.deployment.config import LoadConfig
from unip.deployment.engine import Engine
from unip.paths import expand
from unip.segmentation.model_folder import read_model_config


def open_engine(name: str, config: LoadConfig) -> Engine:
    """Return the engine for a name of the zoo, a folder, or a repository of the hub.

    Raises:
        UnipError: There is no such model, it is damaged, or the device is not there.
    """
    if name.startswith("hf:"):
        from unip.deployment.hub import fetch_folder

        folder = fetch_folder(name)
    else:
        folder = expand(name)
    read_model_config(folder)  # refuses what is no model, before torch is imported
    from unip.deployment.engines.torch_engine import TorchEngine

    return TorchEngine(folder, config, name)
