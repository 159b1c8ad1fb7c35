"""trainyard.data.preparation.request."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.config.schema import Config, DataConfig


@dataclass(frozen=True)
class DataRequest:
    """What to prepare and where."""

    outputs: Path
    stage: str
    data: DataConfig
    tokenizer_path: str | None
    """Directory or hub id; None: a tokenizer of `vocab_size` trained on the data."""
    vocab_size: int
    seed: int
    """Chooses the documents when a fraction of a source is asked for."""
    add_tokens: tuple[Any, ...] = ()
    """Given to the tokenizer beside those it has; see trainyard.data.tokenization.added_tokens."""
    trust_remote_code: bool = False
    part_bytes: int | None = None
    """Bytes on disk that are tokenized between two points at which a killed preparation goes on. None: by the size."""


@dataclass(frozen=True)
class Prepared:
    """Where the store and the tokenizer lie."""

    store: Path
    tokenizer: str


@dataclass(frozen=True)
class Share:
    """Part `index` of `count` of the work; any `count` consecutive indices make the whole."""

    index: int
    count: int

    def of(self, parts: int) -> list[int]:
        return list(range(self.index % self.count, parts, self.count))


def data_request(config: Config) -> DataRequest:
    """What the data layer has to prepare for a run."""
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
