"""Finds the functions and classes that a pickle would call when it is loaded, without loading it, by pickletools."""

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SUFFIXES = (".pt", ".pth", ".bin", ".pkl")
"""Files of a checkpoint that are pickles, plain or in torch.save's zip."""


_HARMLESS = re.compile(
    r"torch (\w+Storage|Size|Tensor|device|dtype|(b?float|u?int|complex)\d+|bool)"
    r"|torch\._utils _rebuild_(tensor_v2|tensor|parameter)"
    r"|torch\._tensor _rebuild_from_type_v2"
    r"|torch\.storage \w+Storage"
    r"|torch\.optim\.\w+ [A-Z]\w*"
    r"|collections (OrderedDict|defaultdict|deque)"
    r"|numpy (dtype|ndarray)"
    r"|numpy\.(_core|core)\.multiarray (_reconstruct|scalar)"
    r"|_codecs encode"
    r"|(__builtin__|builtins) (set|frozenset|slice|complex|bytearray)"
    r"|deepspeed\.(runtime|utils)\.[\w.]+ ([A-Z]\w*|fragment_address)"
)
"""`module name` of all that PyTorch, NumPy and DeepSpeed put into checkpoints: data, and the classes that hold data."""


def foreign(file: Path) -> str | None:
    """The first function or class that a file would call and no checkpoint needs; None for a harmless file.

    Raises:
        ValueError: the file is no pickle.
    """
    try:
        for stream in _pickles(file):
            while stream.tell() < len(stream.getbuffer()):
                for name in _globals(stream):
                    if not _HARMLESS.fullmatch(name):
                        return name.replace(" ", ".")
    except (zipfile.BadZipFile, ValueError, IndexError, KeyError, EOFError, OSError) as error:
        raise ValueError(f"{file.name} cannot be read as a checkpoint's file: {error}") from error
    return None


def _pickles(file: Path) -> Iterator[io.BytesIO]:
    """Streams of one or more pickles each, found in a file as torch.load finds them."""
    with file.open("rb") as stream:
        is_zip = stream.read(4) == b"PK\x03\x04"
        stream.seek(0)
        if not is_zip:
            yield io.BytesIO(stream.read())
            return
        with zipfile.ZipFile(stream) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".pkl"):
                    yield io.BytesIO(archive.read(entry))


def _globals(stream: io.BytesIO) -> Iterator[str]:
    """`module name` of everything that one pickle looks up; `? name` where the module is computed."""
    strings: list[str | None] = []
    memo: dict[Any, str | None] = {}
    for operation, argument, _ in pickletools.genops(stream):
        name = operation.name
        if name in ("GLOBAL", "INST"):
            yield str(argument)
            strings.append(None)
        elif name == "STACK_GLOBAL":
            module, attribute = strings[-2:] if len(strings) > 1 else (None, None)
            yield f"{module or '?'} {attribute or '?'}"
            strings.append(None)
        elif name in ("EXT1", "EXT2", "EXT4", "PERSID"):
            yield f"? {name}"
        elif "UNICODE" in name or "STRING" in name:
            strings.append(str(argument))
        elif name == "MEMOIZE":
            memo[len(memo)] = strings[-1] if strings else None
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = strings[-1] if strings else None
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            strings.append(memo.get(argument))
        else:
            strings.append(None)
