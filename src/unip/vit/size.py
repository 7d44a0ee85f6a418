"""What a file of weights claims is compared with its bytes before memory is taken for it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from unip.errors import UnipError

UNPACKED = 4  # times the size of a file that its tensors may take: 8-bit weights become floats, names may share one
SPARE_BYTES = 1 << 20
SPARE_NUMBERS = 25_000_000  # up to which a model is built and compared with the file in detail
SLACK = 2  # by which a backbone may be larger than its checkpoint: missing biases, separate q, k and v
RESIZED_NUMBERS = 100_000_000  # that positions for larger images may add


def check_size(build: Callable[[], nn.Module], numbers: int, file: str) -> None:
    """Refuse to build a model that has more parameters than the file of its weights can hold.

    Args:
        build: Makes the model; called without memory for its tensors.
        numbers: As many may be in its tensors.
        file: That of the weights, for the message.

    Raises:
        UnipError: It has more, or cannot be built at all.
    """
    try:
        with torch.device("meta"):
            wanted = sum(value.numel() for value in build().state_dict().values())
    except UnipError as error:
        raise UnipError(f"{file}: {error.what}", error.fix) from None
    if wanted > numbers:
        raise UnipError(
            f"{file} is too small for what it is described as: a model of {wanted / 1e6:,.1f} million parameters",
            "They do not belong together: get or save the model again.",
        )


def check_archive(stream: BinaryIO, file: Path) -> None:
    """Refuse a file of ``torch.save`` that unpacks to far more bytes than it has; torch itself does not pack.

    Raises:
        UnipError: It does.
        zipfile.BadZipFile: It is torn.
    """
    size = stream.seek(0, 2)
    with zipfile.ZipFile(stream) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    stream.seek(0)
    _check_bytes(unpacked, size, file)


def check_tensors(tensors: Mapping[str, Tensor], size: int, file: Path) -> None:
    """Refuse tensors that claim more numbers than their file holds.

    Args:
        tensors: By name, as they were read.
        size: Bytes of the file.
        file: For the message.

    Raises:
        UnipError: One repeats its numbers or has none; or all together are far larger than the file.
    """
    dense = {name: value for name, value in tensors.items() if value.layout == torch.strided and not value.is_quantized}
    for name, value in dense.items():
        if value.is_meta or value.nbytes > value.untyped_storage().nbytes():
            raise UnipError(
                f"{file}: tensor {name} of the shape {tuple(value.shape)} has fewer numbers than that in the file",
                "Save contiguous copies of the tensors, or use another file.",
            )
    _check_bytes(sum(value.nbytes for value in dense.values()), size, file)


def _check_bytes(claimed: int, size: int, file: Path) -> None:
    if claimed > UNPACKED * size + SPARE_BYTES:
        raise UnipError(
            f"{file} has {size} bytes, but would take {claimed} in memory",
            "It is damaged, or forged to exhaust memory: use another file.",
        )
