"""Documents of text files: lines, paragraphs, whole files, JSON lines and Python sources.

Every function yields numbers and values: the number of the document's first line within the piece, from 0, or None for
the whole file; and a text, a row, a conversation or a Fault.
"""

import codecs
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trainyard.data.sources.docstrings import conversations
from trainyard.data.sources.documents import Fault, too_long
from trainyard.data.sources.pieces import Piece
from trainyard.data.sources.streams import CHUNK, opened

Found = Iterator[tuple[int | None, Any]]

_BOM = codecs.BOM_UTF8


def lines(piece: Piece, max_bytes: int, progress: Callable[[int], None]) -> Iterator[tuple[int, str | Fault]]:
    """All lines, blank ones too, in the memory of one line.

    Args:
        max_bytes: a longer line is a Fault.
        progress: is told the bytes on disk that were read of the piece.
    """
    with opened(piece.file) as (stream, raw):
        if piece.start:
            stream.seek(piece.start)
        number, read = 0, piece.start
        while (piece.stop is None or read < piece.stop) and (line := stream.readline(max_bytes + 1)):
            size = len(line)
            if size > max_bytes:
                begin = line[:200]
                while not line.endswith(b"\n") and (line := stream.readline(CHUNK)):
                    size += len(line)
                yield number, Fault(too_long(size, max_bytes), begin.decode("utf-8", "replace"))
            else:
                yield number, _decoded(line.removeprefix(_BOM) if read == 0 else line)
            read += size
            number += 1
            progress(read - piece.start if stream is raw else raw.tell())


def text_lines(piece: Piece, max_bytes: int, progress: Callable[[int], None]) -> Found:
    """Each line that is not blank."""
    for number, line in lines(piece, max_bytes, progress):
        if isinstance(line, Fault):
            yield number, line
        elif not line.isspace():
            yield number, line.rstrip("\r\n")


def paragraphs(piece: Piece, max_bytes: int, progress: Callable[[int], None]) -> Found:
    """Runs of lines that are not blank. A run with a faulty line is one Fault, numbered by that line."""
    gathered: list[str] = []
    fault: Fault | None = None
    first = size = 0
    for number, line in itertools.chain(lines(piece, max_bytes, progress), [(-1, "\n")]):
        if isinstance(line, str) and line.isspace():
            if fault or gathered:
                yield first, fault or "".join(gathered).rstrip("\r\n")
            gathered, fault, size = [], None, 0
            continue
        first = number if not gathered and fault is None else first
        if fault is not None:
            continue
        if isinstance(line, Fault):
            fault, first = line, number
            continue
        size += len(line)
        gathered.append(line)
        if size > max_bytes:
            fault, gathered = Fault(too_long(size, max_bytes), gathered[0]), []


def whole_file(piece: Piece, max_bytes: int) -> Found:
    """The file as one text."""
    with opened(piece.file) as (stream, _):
        content = stream.read(max_bytes + 1)
        if len(content) <= max_bytes:
            yield None, _decoded(content.removeprefix(_BOM))
            return
        size = len(content) + sum(len(block) for block in iter(lambda: stream.read(CHUNK), b""))
        yield None, Fault(too_long(size, max_bytes), content[:200].decode("utf-8", "replace"))


def docstrings(piece: Piece, max_bytes: int) -> Found:
    """The conversations of a Python source; see docstrings.py."""
    for _, source in whole_file(piece, max_bytes):
        if isinstance(source, Fault):
            yield None, source
            continue
        try:
            yield from ((line - 1, made) for line, made in conversations(_module(piece.file), source))
        except (SyntaxError, ValueError, RecursionError) as error:
            yield None, Fault(f"not Python source: {error}")


def json_lines(piece: Piece, max_bytes: int, progress: Callable[[int], None]) -> Found:
    """The JSON value on each line that is not blank."""
    for number, line in lines(piece, max_bytes, progress):
        if isinstance(line, Fault):
            yield number, line
        elif not line.isspace():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, Fault(f"not valid JSON: {error}", line)


def line_number(piece: Piece, number: int) -> int:
    """The number in the file, from 1, of a line of a piece. The lines before the piece are counted only now."""
    left, before = piece.start, 0
    with Path(piece.file).open("rb") as stream:
        while left and (block := stream.read(min(left, CHUNK))):
            before += block.count(b"\n")
            left -= len(block)
    return before + number + 1


def _module(file: str) -> str:
    path = Path(file)
    return path.parent.name if path.stem == "__init__" else path.stem


def _decoded(content: bytes) -> str | Fault:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 ({error.reason} at byte {error.start}); convert the file"
        return Fault(reason, content[:200].decode("utf-8", "replace"))
