"""The description of a finished part: the file that says that the part is there, and what it holds."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from trainyard.data.store import Noted
from trainyard.files import known, write_bytes


@dataclass(frozen=True)
class Description:
    """The figures of a finished part."""

    documents: list[int]
    """Documents of each source."""
    empty: list[int]
    """Documents of each source that were left out because they hold no text."""
    notes: list[list[Noted]]
    """For each source what a user should know of some of its documents."""
    rejected: int
    """Documents that were left out."""
    bytes: int
    """Bytes of the documents' texts."""
    learned_tokens: int | None
    """Tokens that the loss counts; None without a loss mask."""
    tokenizer_backend: str
    backend_reason: str
    span: tuple[float, float]
    """When the work on the part began and ended, in seconds since 1970."""
    arrow_bytes: int
    """The size of its Arrow file: a file of another size was torn by a crash."""

    @classmethod
    def read(cls, path: Path) -> "Description":
        """
        Raises:
            OSError: there is no description.
            ValueError: the file holds no JSON, or no description. Keys of another version are passed over.
        """
        fields = json.loads(path.read_text(encoding="utf-8"))
        try:
            started, ended = fields["span"]
            notes = [[Noted(**note) for note in source] for source in fields["notes"]]
            return cls(**{"learned_tokens": None, **known(cls, fields), "notes": notes, "span": (started, ended)})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path}: holds no description of a part: {error!r}") from error

    def write(self, path: Path) -> None:
        """Replaces the file once its content is on the disk."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        write_bytes(path, json.dumps(fields).encode(), durable=True)
