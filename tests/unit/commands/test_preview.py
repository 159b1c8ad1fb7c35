"""trainyard preview: whole training sequences in the order of the training."""

import json
from pathlib import Path

import pytest

from trainyard.data.preparation.processes import HEAP
from trainyard.data.tokenization import tokenizer as tokenizers
from unit.learned import Verb

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def words(tmp_path: Path, tokenizer_path: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command for one document of three words, in blocks of eight tokens."""
    for name, value in HEAP.items():  # else the command would start this process again with them
        monkeypatch.setenv(name, value)
    (tmp_path / "text.jsonl").write_text('{"text": "yard x x"}\n')
    return [
        "pretrain",
        f"data.sources=[{{path: '{tmp_path / 'text.jsonl'}', format: jsonl}}]",
        f"paths.outputs={tmp_path / 'outputs'}",
        f"tokenizer.path={tokenizer_path}",
        "data.block_size=8",
        "data.packing=padded",
        "data.eval_fraction=0",
    ]


def test_a_sequence_as_the_model_gets_it(words: list[str], tokenizer_path: str, verb: Verb, capsys: Printed) -> None:
    assert verb("preview", *words, "--json", "--count", "1", "--start", "3") == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    tokenizer = tokenizers.load(tokenizer_path)
    ids = [*tokenizer("yard x x")["input_ids"], tokenizer.eos_token_id]
    assert 3 < len(ids) <= 8
    filling = [-100] * (8 - len(ids))
    assert (row["position"], row["sequence"], row["labels"]) == (3, 0, ids + filling)
    assert row["input_ids"][: len(ids)] == ids and len(row["input_ids"]) == 8
    assert len(row["pieces"]) == 1


def test_people_see_the_text_and_the_filling(words: list[str], tmp_path: Path, verb: Verb, capsys: Printed) -> None:
    assert verb("preview", *words, "--count", "1", "--html", tmp_path / "page.html") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("═══ position 0: sequence 0 of 1, ")
    assert "yard x x" in shown and "places of filling, not learned" in shown
    assert "position 0: sequence 0 of 1" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("range_", [["--start", "-1"], ["--count", "0"]])
def test_a_range_that_is_none_is_refused(words: list[str], verb: Verb, capsys: Printed, range_: list[str]) -> None:
    assert verb("preview", *words, *range_) == 2
    assert "positions count from 0, and 1 is least" in capsys.readouterr().err
