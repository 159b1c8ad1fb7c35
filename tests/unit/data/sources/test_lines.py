"""Lines, paragraphs, whole files, JSON lines and Python sources, with the numbers of their lines in the piece."""

import gzip
from pathlib import Path
from typing import Any

from trainyard.data.conversations.conversation import Conversation
from trainyard.data.sources import lines
from trainyard.data.sources.documents import Fault, too_long
from trainyard.data.sources.pieces import Piece


def piece(path: Path, content: bytes, start: int = 0, stop: int | None = None) -> Piece:
    path.write_bytes(content)
    return Piece(0, str(path), start, stop)


def ignore(position: int) -> None:
    """For those who do not look at the progress."""


def test_lines_of_a_file_with_a_mark_at_its_start_and_no_break_at_its_end(tmp_path: Path) -> None:
    read: list[int] = []
    content = b"\xef\xbb\xbfone\n\n\xe4\xba\x8c\r\nlast \xef\xbb\xbf"
    found = list(lines.lines(piece(tmp_path / "a.txt", content), 100, read.append))
    assert found == [(0, "one\n"), (1, "\n"), (2, "二\r\n"), (3, "last \ufeff")]
    assert read == [7, 8, 13, 21]


def test_the_lines_of_a_piece_are_those_between_its_ends(tmp_path: Path) -> None:
    read: list[int] = []
    found = lines.lines(piece(tmp_path / "a.txt", b"one\ntwo\nthree\nfour\n", 4, 14), 100, read.append)
    assert list(found) == [(0, "two\n"), (1, "three\n")]
    assert read == [4, 10]


def test_a_line_is_as_long_as_the_limit_or_a_fault_and_the_next_one_is_read(tmp_path: Path) -> None:
    fault = Fault(too_long(301, 10), "x" * 11)
    found = lines.lines(piece(tmp_path / "a.txt", b"123456789\n" + b"x" * 300 + b"\nafter\n"), 10, ignore)
    assert list(found) == [(0, "123456789\n"), (1, fault), (2, "after\n")]


def test_a_line_that_is_not_utf8_is_a_fault(tmp_path: Path) -> None:
    found = lines.lines(piece(tmp_path / "a.txt", b"a\n\xff b\nc"), 100, ignore)
    fault = Fault("not UTF-8 (invalid start byte at byte 0); convert the file", "\ufffd b\n")
    assert list(found) == [(0, "a\n"), (1, fault), (2, "c")]


def test_text_lines_are_without_breaks_and_without_blank_ones(tmp_path: Path) -> None:
    found = lines.text_lines(piece(tmp_path / "a.txt", b" one \r\n \t\n\ntwo"), 100, ignore)
    assert list(found) == [(0, " one "), (3, "two")]


def test_paragraphs_begin_behind_blank_lines_and_a_faulty_line_spoils_its_own(tmp_path: Path) -> None:
    content = b"\none\nmore\n \n\ntwo\n\xff\nmore\n\nthree"
    fault = Fault("not UTF-8 (invalid start byte at byte 0); convert the file", "\ufffd\n")
    found = lines.paragraphs(piece(tmp_path / "a.txt", content), 100, ignore)
    assert list(found) == [(1, "one\nmore"), (6, fault), (9, "three")]


def test_a_paragraph_that_is_too_long_is_a_fault_of_its_first_line(tmp_path: Path) -> None:
    found = lines.paragraphs(piece(tmp_path / "a.txt", b"1234\n5678\n90\nmore\n\nnext\n"), 10, ignore)
    assert list(found) == [(0, Fault(too_long(13, 10), "1234\n")), (5, "next")]


def test_a_whole_file_is_one_text_or_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert list(lines.whole_file(piece(path, b"\xef\xbb\xbfone\r\n\ntwo"), 100)) == [(None, "one\r\n\ntwo")]
    assert list(lines.whole_file(piece(path, b"x" * 12), 12)) == [(None, "x" * 12)]
    assert list(lines.whole_file(piece(path, b"x" * 13), 12)) == [(None, Fault(too_long(13, 12), "x" * 13))]


def test_json_lines(tmp_path: Path) -> None:
    found: list[tuple[int | None, Any]] = list(
        lines.json_lines(piece(tmp_path / "a.jsonl", b'{"a": 1}\n\n[2]\n{"a"\nnull'), 100, ignore)
    )
    fault = Fault("not valid JSON: Expecting ':' delimiter: line 2 column 1 (char 5)", '{"a"\n')
    assert found == [(0, {"a": 1}), (2, [2]), (3, fault), (4, None)]


def test_the_progress_of_a_compressed_file_is_that_of_the_bytes_on_disk(tmp_path: Path) -> None:
    read: list[int] = []
    packed = gzip.compress(b"one\ntwo\n" * 100)
    assert len(list(lines.lines(piece(tmp_path / "a.txt.gz", packed), 100, read.append))) == 200
    assert read == [len(packed)] * 200


def test_docstrings_of_a_module(tmp_path: Path) -> None:
    source = b'def add(a, b):\n    """Adds two numbers and returns the sum."""\n'
    said = ["What does `yard.add` do?", "Adds two numbers and returns the sum.", "How is it called?", "`add(a, b)`"]
    roles = ["user", "assistant"] * 2
    messages = [{"role": role, "content": content} for role, content in zip(roles, said, strict=True)]
    assert list(lines.docstrings(piece(tmp_path / "yard.py", source), 1000)) == [
        (0, Conversation(messages, [None] * 4))
    ]
    ((place, fault),) = lines.docstrings(piece(tmp_path / "yard.py", b"def"), 1000)
    assert place is None
    assert fault.reason.startswith("not Python source: ")


def test_the_number_of_a_line_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    content = b"one\ntwo\nthree\nfour\n"
    assert lines.line_number(piece(path, content), 0) == 1
    assert lines.line_number(piece(path, content, 8, 19), 1) == 4
