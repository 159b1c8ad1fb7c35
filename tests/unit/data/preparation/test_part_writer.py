"""One part: documents in batches, their tokens and arrays on disk, and the bad documents by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from trainyard.config.schema import SourceConfig
from trainyard.data.conversations.conversation import Conversation
from trainyard.data.preparation import part_writer
from trainyard.data.preparation.part_writer import ADVICE, Batch, Counts, PartWriter, Rejections, batches
from trainyard.data.sources.pieces import Piece
from trainyard.data.sources.reader import Reader, Rejected
from trainyard.data.store import ArrowWriter, Noted
from trainyard.data.tokenization.encoded import CutPoints, Tokens
from trainyard.errors import DataError

BAD = Rejected("a.txt", 1, "line", "not UTF-8", "")


def source(path: Path, content: str, form: str = "text") -> tuple[Piece, Reader]:
    path.write_text(content)
    return Piece(0, str(path), size=len(content)), Reader(SourceConfig(path=str(path), format=form), 1000)


def by_length(documents: list[Any]) -> Tokens:
    """Each text as its length."""
    return Tokens.join([[len(document)] for document in documents])


def rows(arrow: Path) -> dict[str, Any]:
    table: dict[str, Any] = pa.ipc.open_stream(arrow.read_bytes()).read_all().to_pydict()
    return table


def test_texts_become_rows_with_lengths_and_hashes(tmp_path: Path) -> None:
    piece, reader = source(tmp_path / "a.txt", "one\nthree\n二\n")
    with ArrowWriter(tmp_path / "part.arrow", 100) as arrow:
        writer = PartWriter(arrow, [reader], Rejections(stop=True))
        for batch in batches([piece], [reader], writer.rejections):
            writer.add(batch, by_length)
    assert writer.close(tmp_path / "part") == Counts([3], [0], [[]], 0, len("one" + "three") + 3, None)
    assert rows(tmp_path / "part.arrow") == {"input_ids": [[3], [5], [1]]}
    assert np.load(tmp_path / "part.lengths.npy").tolist() == [1, 1, 1]
    hashes = [xxhash.xxh3_64_intdigest(text.encode()) for text in ("one", "three", "二")]
    assert np.load(tmp_path / "part.hashes.npy").tolist() == hashes
    assert (tmp_path / "part.rejected.jsonl").read_text() == ""
    assert not (tmp_path / "part.cuts.npy").exists()


def test_conversations_have_a_mask_and_cut_points_and_one_that_is_refused_is_listed(tmp_path: Path) -> None:
    piece, reader = source(tmp_path / "a.jsonl", "\n\n", "alpaca")
    talks = [Conversation([{"role": "user", "content": words}], [None]) for words in ("Hi", "Bye", "So")]
    tokens = Tokens(
        np.array([1, 2, 3], np.uint32), np.array([2, 1]), np.array([0, 1, 1], np.uint8),
        [CutPoints(0, [1]), CutPoints(None)], {1: "nothing of it is learned"}, [[("tools are left out", "x")], []],
    )  # fmt: skip
    with ArrowWriter(tmp_path / "part.arrow", 100, masked=True) as arrow:
        writer = PartWriter(arrow, [reader], Rejections(stop=False))
        writer.add(Batch(talks, [(piece, number) for number in range(3)], 0), lambda documents: tokens)
    read = sum(len(talk.serialized) for talk in (talks[0], talks[2]))
    assert writer.close(tmp_path / "part") == Counts([2], [0], [[Noted("tools are left out", 1, "x")]], 1, read, 2)
    assert rows(tmp_path / "part.arrow") == {"input_ids": [[1, 2], [3]], "loss_mask": [[0, 1], [1]]}
    assert np.load(tmp_path / "part.cuts.npy").tolist() == [0, 1, 2**32 - 1]
    assert np.load(tmp_path / "part.cut_counts.npy").tolist() == [2, 1]
    assert json.loads((tmp_path / "part.rejected.jsonl").read_text()) == {
        "file": piece.file, "number": 2, "unit": "line", "reason": "nothing of it is learned",
        "text": '[{"role": "user", "content": "Bye"}]',
    }  # fmt: skip


def test_documents_come_in_batches_of_so_many_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_writer, "BATCH_CHARACTERS", 5)
    first, reader = source(tmp_path / "a.txt", "one\ntwo\nthree\n")
    second, other = source(tmp_path / "b.txt", "4\n")
    pieces = [first, second._replace(source=1)]
    assert list(batches(pieces, [reader, other], Rejections(stop=True))) == [
        Batch(["one", "two"], [(first, 0), (first, 1)], 4),
        Batch(["three"], [(first, 2)], 8),
        Batch(["4"], [(pieces[1], 0)], 16),
    ]


def test_empty_documents_are_counted_for_each_source(tmp_path: Path) -> None:
    first, reader = source(tmp_path / "a.jsonl", '{"text": ""}\n{"text": "a"}\n{"text": " "}\n', "jsonl")
    second, other = source(tmp_path / "b.jsonl", '{"text": "b"}\n', "jsonl")
    third, last = source(tmp_path / "c.jsonl", "", "jsonl")
    readers = [reader, other, last]
    with ArrowWriter(tmp_path / "part.arrow", 100) as arrow:
        writer = PartWriter(arrow, readers, Rejections(stop=True))
        pieces = [first, second._replace(source=1), third._replace(source=2)]
        for batch in batches(pieces, readers, writer.rejections):
            writer.add(batch, by_length)
    assert writer.close(tmp_path / "part") == Counts([1, 1, 0], [2, 0, 1], [[], [], []], 0, 2, None)


def test_bad_documents_end_the_work_when_the_rest_is_read_or_ten_are_found(tmp_path: Path) -> None:
    piece, reader = source(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": 1}\n{"text": 2}\n', "jsonl")
    rejections = Rejections(stop=True)
    with pytest.raises(DataError) as caught:
        list(batches([piece], [reader], rejections))
    assert caught.value.problems == []
    assert [row.number for row in rejections.rows] == [2, 3]
    for _ in range(7):
        rejections.add(BAD)
    with pytest.raises(DataError, match="there may be more"):
        rejections.add(BAD)
    assert rejections.error("x").problems == [*map(str, rejections.rows), "x", ADVICE]


def test_bad_documents_that_are_left_out_are_as_many_as_they_are() -> None:
    rejections = Rejections(stop=False)
    for _ in range(12):
        rejections.add(BAD)
    assert not rejections.ending
    assert rejections.error().problems == ["a.txt:1: not UTF-8"] * 10 + [ADVICE]
    assert Rejections(stop=True).error("x").problems == ["x"]
