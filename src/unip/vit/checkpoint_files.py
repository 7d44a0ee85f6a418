"""Which files are checkpoints, told from their first bytes, before torch is imported."""

from __future__ import annotations

import contextlib
import os
import pickletools
import re
from pathlib import Path

from unip.errors import UnipError
from unip.files import read_json
from unip.opening import open_regular
from unip.paths import exists, is_dir, is_file

ZIP, PICKLE = b"PK\3\4", b"\x80"  # how files of torch.save begin: those since torch 1.6, and older ones
SHARD = re.compile(r"[-_.]0*(\d+)-of-0*(\d+)\.\w+$")  # how transformers and others name the parts of a checkpoint
INDEX = ".index.json"  # lies beside the parts and says which tensor is in which


def check_checkpoint(path: Path) -> bool:
    """Refuse a file that is neither safetensors nor of ``torch.save`` by its first bytes, or is a part of several.

    Returns:
        Whether it is safetensors.

    Raises:
        UnipError: It is neither, it is one shard of a checkpoint, or it is missing or cannot be read.
    """
    if not is_file(path):
        kind = "is a folder" if is_dir(path) else "is not a regular file" if exists(path) else "does not exist"
        raise UnipError(f"checkpoint {path} {kind}", "Give a .safetensors, .pth, .pt or .bin file.")
    _refuse_shard(path)
    try:
        with open_regular(path) as stream:
            head, size = stream.read(9), os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise UnipError(f"cannot read {path}: {error.strerror}", "Check the path and who may read it.") from error
    if path.suffix == ".safetensors" or head[8:] == b"{":  # the size of the header, and a header in JSON
        if head[8:] != b"{" or 8 + int.from_bytes(head[:8], "little") > size:
            raise not_a_checkpoint(path)
        return True
    if not head.startswith((ZIP, PICKLE)):
        raise refused_pickle(path)
    return False


def _refuse_shard(path: Path) -> None:
    named = SHARD.search(path.name)
    if path.name.endswith(INDEX):
        what = f"{path} is the index of a sharded checkpoint and holds no weights"
    elif named and int(named[2]) > 1:
        what = f"{path} is part {named[1]} of {named[2]} of a sharded checkpoint"
    elif index := next((i for i in path.parent.glob(f"*{INDEX}") if path.name in _shards(i)), None):
        what = f"{path} is one part of a sharded checkpoint: {index.name} lists {len(_shards(index))} parts"
    else:
        return
    raise UnipError(what, "Load the tensors of all parts into one dictionary, save that as one file, and give it.")


def _shards(index: Path) -> set[str]:
    """Return the names of the files that an index lists, if they are several."""
    with contextlib.suppress(UnipError):  # a damaged index tells nothing about the file that was asked for
        content = read_json(index)
        names = content.get("weight_map") if isinstance(content, dict) else None
        parts = {str(name) for name in names.values()} if isinstance(names, dict) else set()
        return parts if len(parts) > 1 else set()
    return set()


def not_a_checkpoint(path: Path) -> UnipError:
    """Return the error for a file that holds something else, or is not whole."""
    return UnipError(f"{path} is truncated or not a checkpoint", "Download or copy it again and compare its size.")


def refused_pickle(path: Path, name: str | None = None) -> UnipError:
    """Return the error for a pickle that would call something when it is loaded; or for no pickle at all.

    Args:
        path: The file.
        name: What it would call; None: what its opcodes name first.
    """
    name = name or _first_call(path)
    if name is None:
        return not_a_checkpoint(path)
    return UnipError(
        f"{path} is a pickle that would run {name} when loaded; it was refused and nothing was run",
        "If you trust its origin, open it there and save only the state_dict(), best as safetensors.",
    )


def _first_call(path: Path) -> str | None:
    """Return the first Python object that a bare pickle names, told from its opcodes without running them."""
    strings = ["", ""]
    with open_regular(path) as stream, contextlib.suppress(Exception):  # it may be anything else, or torn
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL":
                return ".".join(strings)
            if isinstance(argument, str):
                strings = [strings[1], argument]
    return None
