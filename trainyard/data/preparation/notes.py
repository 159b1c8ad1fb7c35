"""What a user should know of some documents of a source: counted while parts are made, said in a line per source."""

from collections.abc import Iterable, Sequence

from trainyard.config.schema import SourceConfig
from trainyard.data.store import Noted, SourceCounts


class Notes:
    """The notes of one source, counted."""

    def __init__(self) -> None:
        self._found: dict[str, Noted] = {}

    def add(self, notes: Iterable[tuple[str, str]]) -> None:
        """The notes of one document: sentences, each with an example."""
        for what, example in notes:
            self._add(Noted(what, 1, example))

    def _add(self, note: Noted) -> None:
        before = self._found.get(note.what, Noted(note.what, 0, note.example))
        self._found[note.what] = Noted(note.what, before.count + note.count, before.example)

    def noted(self) -> list[Noted]:
        """All of them, the most frequent first."""
        return sorted(self._found.values(), key=lambda note: -note.count)


def joined(parts: Iterable[Sequence[Noted]]) -> list[Noted]:
    """The notes of one source, from all parts of a store."""
    notes = Notes()
    for part in parts:
        for note in part:
            notes._add(note)
    return notes.noted()


def lines(sources: Sequence[SourceConfig], counts: Sequence[SourceCounts]) -> list[str]:
    """A line for each source of which there is something to say, with counts."""
    found = []
    for source, count in zip(sources, counts, strict=True):
        said = [f"{count.empty:,} empty documents are left out"] if count.empty else []
        for note in count.notes:
            example = f", as {note.example}" if note.example else ""
            said.append(f"in {note.count:,} of {count.documents:,} documents {note.what}{example}")
        found += [f"{source.path}: {'; '.join(said)}"] if said else []
    return found
