"""The bytes of an encoded image: a file's, or those at an address in a shard of a packed set."""

from __future__ import annotations

import os
import re

from unip.errors import UnipError
from unip.opening import open_regular, read_regular

PREFIX = 4  # bytes of a value's size in front of it, in Parquet's PLAIN encoding
_ADDRESS = re.compile(rb"(.+\.parquet)#(\d+)\+(\d+)", re.DOTALL)


def read_bytes(path: bytes | str | os.PathLike[str]) -> bytes:
    """Read the encoded image at a path, or at an address in a shard.

    Args:
        path: A file or ``SHARD.parquet#OFFSET+SIZE``.

    Returns:
        What the file holds, or held when it was packed.

    Raises:
        OSError: The file or the shard cannot be read, or is no regular file.
        UnipError: At this address lies no image of this size: the shard is damaged or was packed again.
    """
    raw = os.fsencode(path)
    address = _ADDRESS.fullmatch(raw)
    if address is None:
        return read_regular(raw)
    shard, offset, size = address[1], int(address[2]), int(address[3])
    with open_regular(shard, buffering=0) as file:
        file.seek(offset - PREFIX)
        data = file.read(PREFIX + size)
    if len(data) != PREFIX + size or int.from_bytes(data[:PREFIX], "little") != size:
        raise UnipError(
            f"{os.fsdecode(shard)} holds no image of {size} bytes at byte {offset}",
            "It is damaged or was packed again: open the packed set again, or run `unip data pack` again.",
        )
    return data[PREFIX:]


def file_of(path: bytes) -> bytes:
    """Return the file that holds the image at ``path``: the shard of an address, else the path itself."""
    address = _ADDRESS.fullmatch(path)
    return path if address is None else address[1]
