"""The description of a finished part, written and read, and one that a crash has torn."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trainyard.data.preparation.description import Description
from trainyard.data.store import Noted

PART = Description(
    documents=[3, 0],
    empty=[0, 2],
    notes=[[Noted("tools are left out", 2, "x")], []],
    rejected=1,
    bytes=120,
    learned_tokens=7,
    tokenizer_backend="tokenizers",
    backend_reason="asked for",
    span=(1.5, 2.25),
    arrow_bytes=640,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "part-00000.json"
    PART.write(path)
    assert json.loads(path.read_text()) == {
        "documents": [3, 0], "empty": [0, 2],
        "notes": [[{"what": "tools are left out", "count": 2, "example": "x"}], []], "rejected": 1, "bytes": 120,
        "learned_tokens": 7, "tokenizer_backend": "tokenizers",
        "backend_reason": "asked for", "span": [1.5, 2.25], "arrow_bytes": 640,
    }  # fmt: skip
    assert Description.read(path) == PART
    assert [file.name for file in tmp_path.iterdir()] == ["part-00000.json"]


def test_without_a_loss_mask_no_learned_tokens_are_written(tmp_path: Path) -> None:
    path = tmp_path / "part-00000.json"
    plain = replace(PART, learned_tokens=None)
    plain.write(path)
    assert "learned_tokens" not in json.loads(path.read_text())
    assert Description.read(path) == plain


@pytest.mark.parametrize("kept", [0, 1, 40])
def test_a_torn_file_holds_no_json_and_a_missing_one_is_missing(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "part-00000.json"
    with pytest.raises(OSError, match="No such file"):
        Description.read(path)
    PART.write(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError):
        Description.read(path)
