"""Preparations of small corpora, for the tests of trainyard.data.preparation.prepare."""

import json
from pathlib import Path
from typing import Any

import datasets

from pretrain.encode import Encoder
from trainyard.config.schema import DataConfig, SourceConfig
from trainyard.data.preparation import prepare
from trainyard.data.preparation.parts import Report
from trainyard.data.preparation.request import DataRequest, Prepared
from trainyard.data.tokenization.encoded import Tokens


def request_for(outputs: Path, file: Path, *, part_bytes: int = 1 << 20, **data: Any) -> DataRequest:
    sources = data.pop("sources", None) or [SourceConfig(path=str(file), format="jsonl")]
    tokenizer = data.pop("tokenizer_path", None)
    config = DataConfig(sources=sources, **({"block_size": 64} | data))
    return DataRequest(outputs, "pretrain", config, tokenizer, vocab_size=300, seed=0, part_bytes=part_bytes)


def run(
    request: DataRequest,
    made: list[int] | None = None,
    *,
    encoder: type[Encoder] = Encoder,
    report: Report = lambda done, total: None,
    **options: Any,
) -> Prepared:
    """Prepares the request's data; `made` gets the number of documents of every batch that is encoded."""

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
