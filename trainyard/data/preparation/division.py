"""The work of a preparation, divided: the sources into pieces, and consecutive pieces into parts."""

from collections.abc import Iterator

from trainyard.config.stages import STAGES
from trainyard.data.preparation.request import DataRequest
from trainyard.data.sources import files, hub
from trainyard.data.sources.pieces import Piece, pieces
from trainyard.data.sources.reader import Reader

MOST_PARTS = 4000
"""Parts of a corpus, about; a large corpus has larger parts. Each part is a file that every reader maps."""


def readers(request: DataRequest) -> list[Reader]:
    """A reader for each source.

    Raises:
        DataError: no column of a source holds text.
    """
    limit = int(request.data.max_document_mb * 1e6)
    return [Reader(source, limit, hub.revision(source)) for source in request.data.sources]


def all_pieces(request: DataRequest) -> Iterator[Piece]:
    """The pieces of all sources, in order.

    Raises:
        DataError: a file is not there or cannot be read.
    """
    part_bytes = _part_bytes(request)
    for number, source in enumerate(request.data.sources):
        yield from pieces(number, source, part_bytes, hub.revision(source))


def parts(request: DataRequest) -> list[list[Piece]]:
    """Consecutive pieces grouped into parts, each of which becomes one Arrow file of the store."""
    return group(all_pieces(request), _part_bytes(request))


def group(found: Iterator[Piece], part_bytes: int) -> list[list[Piece]]:
    """Consecutive pieces, together up to about `part_bytes`: with 10 MiB, pieces of 4 5 6 9 MiB become 4 5 6 | 9."""
    made: list[list[Piece]] = []
    size = part_bytes
    for piece in found:
        if size >= part_bytes:
            made.append([])
            size = 0
        made[-1].append(piece)
        size += max(piece.size, 1 << 10) if piece.size else part_bytes  # of unknown size, on the hub
    return made


def source_bytes(request: DataRequest) -> int:
    """Bytes on disk of the local sources, by which the number of parts and processes is chosen."""
    local = [source for source in request.data.sources if not files.is_remote(source)]
    return sum(file.stat().st_size for source in local for file in files.files(source))


def _part_bytes(request: DataRequest) -> int:
    return request.part_bytes or max(STAGES[request.stage].smallest_part, source_bytes(request) // MOST_PARTS)
