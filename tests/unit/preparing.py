"""Preparations of small corpora, for the tests of trainyard.data.prepare."""

import json
from pathlib import Path
from typing import Any

import datasets

from pretrain.encode import Encoder
from trainyard.data import prepare
from trainyard.data.parts import Report
from trainyard.data.prepare import Prepared, Request
from trainyard.data.tokens import Tokens
from trainyard.schema import DataConfig, SourceConfig


def request_for(outputs: Path, file: Path, *, part_bytes: int = 1 << 20, **data: Any) -> Request:
    sources = data.pop("sources", None) or [SourceConfig(path=str(file), format="jsonl")]
    tokenizer = data.pop("tokenizer_path", None)
    config = DataConfig(sources=sources, **({"block_size": 64} | data))
    return Request(outputs, "pretrain", config, tokenizer, vocab_size=300, seed=0, part_bytes=part_bytes)


def run(
    request: Request,
    made: list[int] | None = None,
    *,
    encoder: type[Encoder] = Encoder,
    report: Report = lambda done, total: None,
    **options: Any,
) -> Prepared:
    """Prepares all of it; `made` gets the number of documents of every batch that is encoded."""

    class Counted(encoder):  # type: ignore
        def __call__(self, texts: list[str]) -> Tokens:
            if made is not None:
                made.append(len(texts))
            return super().__call__(texts)

    prepared = prepare.prepare(request, Counted, report, **options)
    assert prepared is not None
    return prepared


def tokens(prepared: Prepared) -> list[list[int]]:
    return datasets.load_from_disk(str(prepared.store))["input_ids"][:]


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path
