"""What a preparation is asked for, and what it returns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.config.schema import Config, DataConfig


@dataclass(frozen=True)
class DataRequest:
    """The data to prepare, and where."""

    outputs: Path
    stage: str
    data: DataConfig
    tokenizer_path: str | None
    """Directory or hub id; None: a tokenizer of `vocab_size` trained on the data."""
    vocab_size: int
    seed: int
    """Selects the documents when a fraction of a source is asked for."""
    add_tokens: tuple[Any, ...] = ()
    """Tokens that the tokenizer gets in addition; see trainyard.data.tokenization.added_tokens."""
    trust_remote_code: bool = False
    part_bytes: int | None = None
    """Bytes on disk of a part, about: after a kill, finished parts are not made again. None: by the corpus's size."""


@dataclass(frozen=True)
class Prepared:
    """Prepared data."""

    store: Path
    """The store's directory."""
    tokenizer: str
    """The tokenizer's directory or hub id."""


@dataclass(frozen=True)
class Share:
    """One of `count` shares of the work; any `count` consecutive indices make the whole."""

    index: int
    count: int

    def of(self, parts: int) -> list[int]:
        """The numbers of this share's parts, of so many."""
        return list(range(self.index % self.count, parts, self.count))


def data_request(config: Config) -> DataRequest:
    """The data to prepare for a run."""
    return DataRequest(
        outputs=Path(config.paths.outputs),
        stage=config.stage,
        data=config.data,
        tokenizer_path=config.tokenizer.path or config.model.path,
        vocab_size=config.tokenizer.vocab_size,
        seed=config.run.seed,
        add_tokens=tuple(config.tokenizer.add_tokens),
        trust_remote_code=config.model.trust_remote_code,
    )
