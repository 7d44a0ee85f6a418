"""Features of a frozen backbone, computed once and kept: what the linear, logistic and k-NN fits are made from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unip.errors import UnipError
from unip.features.model import FeatureModel
from unip.runtime.memory import Cache, use_ram
from unip.vit.shape import width_of


class FeatureStore:
    """Rows of features ``(layers, patches, C)`` of a model, to be filled; ``counts`` are the patches of each frame.

    Raises:
        UnipError: The temporary folder has too little space.
    """

    def __init__(
        self, model: FeatureModel, counts: Sequence[int], cache: Cache, dtype: npt.DTypeLike = np.float16
    ) -> None:
        self.starts = np.cumsum([0, *counts])
        shape = len(model.spec.layers), int(self.starts[-1]), width_of(model.backbone)
        self.rows = room_for(shape, cache, dtype)

    def of(self, frame: int) -> Tensor:
        """Return a frame's rows ``(layers, patches, C)``, a view on the CPU: to be filled or read."""
        return torch.from_numpy(self.rows[:, self.starts[frame] : self.starts[frame + 1]])


def room_for(shape: tuple[int, int, int], cache: Cache, dtype: npt.DTypeLike = np.float16) -> npt.NDArray[np.floating]:
    """Return an empty array, in memory or in a file that has no name, so that nothing can be left behind."""
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    if use_ram(cache, size):
        return np.empty(shape, dtype)
    folder = tempfile.gettempdir()
    if shutil.disk_usage(folder).free < size:  # a mapped file that does not fit would kill the process
        raise UnipError(
            f"the features take {size / 1e9:.1f} GB: too much for memory and for {folder}",
            "Use fewer training images or a smaller short side, or set TMPDIR to a folder with more space.",
        )
    with tempfile.TemporaryFile() as file:  # the mapping keeps it until it is dropped
        return np.memmap(file, dtype, "w+", shape=shape)


def layer_features(model: FeatureModel, images: Tensor) -> Tensor:
    """Return the features ``(B, layers, C, h, w)`` of uint8 images ``(B, 3, H, W)``, on the model's device."""
    return torch.stack(model.features(model.normalise(images.to(model.mean.device))), dim=1)
