"""The encoder that a stage hands to a preparation, and the choice of its backend for one corpus."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from trainyard.config.schema import DataConfig
from trainyard.data.tokenization.encoded import Tokens
from trainyard.files import write_text

GIGATOKEN = "gigatoken"


class Encoder(Protocol):
    """Documents to tokens; `name` is the backend, and `reason` why it was chosen."""

    name: str
    reason: str

    def __call__(self, documents: list[Any]) -> Tokens: ...


class MakeEncoder(Protocol):
    """A stage's Encoder class: `sample` is the start of the corpus, `fast` allows the fast backend."""

    def __call__(self, tokenizer: Any, sample: Sequence[Any], data: DataConfig, *, fast: bool = True) -> Encoder: ...


class ChosenEncoder:
    """The encoder of one corpus, the same for all processes that prepare it.

    gigatoken is used until a process finds that it is wrong on this corpus. That process writes the reason into
    `disproved.txt` for all of them, and whatever gigatoken made is made again.

    Attributes:
        disproved: the path of that file.
        reason: why the backend was chosen.
    """

    def __init__(self, directory: Path, make: MakeEncoder, tokenizer: Any, data: DataConfig):
        self.disproved = directory / "disproved.txt"
        self.reason = ""
        self._make, self._tokenizer, self._data = make, tokenizer, data
        self._encoder: Encoder | None = None

    @property
    def name(self) -> str:
        """The backend in use; none before the first document."""
        return self._encoder.name if self._encoder else "none"

    def trusts(self, backend: str) -> bool:
        """May the tokens of this backend be used?"""
        return backend != GIGATOKEN or not self.disproved.exists()

    def disprove(self, reason: str) -> None:
        """Notes that gigatoken is wrong on this corpus."""
        write_text(self.disproved, reason)
        self._encoder = None

    def renew(self) -> None:
        """Forgets an encoder that another process has disproved."""
        if not self.trusts(self.name):
            self._encoder = None

    def __call__(self, documents: list[Any]) -> Tokens:
        """The tokens of documents; the first ones are the sample on which the backend is chosen.

        Raises:
            BackendMismatchError: gigatoken is wrong on them.
            DataError: the corpus cannot be encoded with this tokenizer.
        """
        if self._encoder is None:
            self._encoder = self._choose(documents)
        return self._encoder(documents)

    def _choose(self, sample: list[Any]) -> Encoder:
        fast = not self.disproved.exists()
        encoder = self._make(self._tokenizer, sample, self._data, fast=fast)
        if fast and encoder.name != GIGATOKEN:
            write_text(self.disproved, encoder.reason)
        self.reason = encoder.reason if fast else self.disproved.read_text(encoding="utf-8")
        return encoder
