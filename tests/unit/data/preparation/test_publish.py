"""Bad documents, named, left out or too many, and the time of a preparation."""

import json
from pathlib import Path

import pytest
from conftest import make_documents

from trainyard.data.preparation import part_writer, prepare
from trainyard.data.preparation.publish import _covered
from trainyard.data.preparation.summary import summarize
from trainyard.errors import DataError
from unit.preparing import request_for, run, tokens, write


def bad_corpus(path: Path, good: int, bad: int) -> Path:
    lines = [json.dumps({"text": text}) for text in make_documents(good)] + ['{"text": 3}'] * bad
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_first_ten_bad_documents_are_named(tmp_path: Path) -> None:
    request = request_for(tmp_path / "out", bad_corpus(tmp_path / "bad.jsonl", 5, 30))
    with pytest.raises(DataError) as caught:
        run(request)
    problems = caught.value.problems
    assert [problem.split(": ")[0].rsplit(":", 1)[1] for problem in problems[:10]] == [str(n) for n in range(6, 16)]
    assert problems[10:] == ["there may be more", part_writer.ADVICE]
    few = request_for(tmp_path / "out", bad_corpus(tmp_path / "few.jsonl", 5, 2))
    with pytest.raises(DataError) as caught:
        run(few)
    assert [str(tmp_path / "few.jsonl:6") in problem for problem in caught.value.problems] == [True, False, False]
    assert str(tmp_path / "few.jsonl:7") in caught.value.problems[1]


def test_bad_documents_are_left_out_when_asked_and_listed(tmp_path: Path) -> None:
    corpus = bad_corpus(tmp_path / "bad.jsonl", 50, 2)
    allowed = {"on_error": "skip", "max_rejected": 0.05}
    request = request_for(tmp_path / "out", corpus, **allowed)
    prepared = run(request)
    assert prepare.find(request) == prepared
    summary = summarize(prepared, request)
    assert (summary["documents"], summary["rejected"]) == (50, 2)
    rows = [json.loads(line) for line in (prepared.store / "rejected.jsonl").read_text().splitlines()]
    assert [(row["file"], row["number"]) for row in rows] == [(str(corpus), 51), (str(corpus), 52)]
    assert rows[0]["reason"] == "column 'text' must hold text, this is int '3'"
    assert rows[0]["text"] == '{"text": 3}'
    # Settings that allow no bad documents, or fewer, refuse the same store.
    for stricter in ({"on_error": "stop"}, {"on_error": "skip", "max_rejected": 0.01}):
        strict = request_for(tmp_path / "out", corpus, **stricter)
        assert prepare.find(strict) is None
        with pytest.raises(DataError, match=r"bad\.jsonl:51"):
            run(strict)


def test_bad_documents_of_all_parts_are_listed(tmp_path: Path) -> None:
    corpus = bad_corpus(tmp_path / "bad.jsonl", 50, 3)
    lines = corpus.read_text().splitlines()
    corpus.write_text("\n".join([lines[-1], *lines[:-1]]) + "\n")
    allowed = {"on_error": "skip", "max_rejected": 0.1, "part_bytes": 500}
    prepared = run(request_for(tmp_path / "out", corpus, **allowed))
    rows = [json.loads(line) for line in (prepared.store / "rejected.jsonl").read_text().splitlines()]
    assert [row["number"] for row in rows] == [1, 52, 53]


def test_too_many_bad_documents_stop_a_preparation_that_skips(tmp_path: Path) -> None:
    corpus = bad_corpus(tmp_path / "bad.jsonl", 50, 2)
    with pytest.raises(DataError) as caught:
        run(request_for(tmp_path / "out", corpus, on_error="skip"))
    assert "2 of 52 documents are bad, 3.85%; data.max_rejected=0.001 allows 0.10%" in caught.value.problems[-1]
    assert "bad.jsonl:51" in caught.value.problems[0]
    made: list[int] = []
    run(request_for(tmp_path / "out", corpus, on_error="skip", max_rejected=0.05), made)
    assert made == []  # the work was not lost


def test_damage_that_hides_documents_stops_even_when_bad_ones_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.gz").write_bytes(b"\x1f\x8b no archive")
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz.*What follows cannot be read"):
        run(request_for(tmp_path / "out", tmp_path / "cut.jsonl.gz", on_error="skip", max_rejected=0.9))


@pytest.mark.parametrize("content", ["", "\n\n", '{"text": " "}\n'])
def test_an_empty_corpus_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "empty.jsonl").write_text(content)
    with pytest.raises(DataError, match="hold no document: all that they hold is empty"):
        run(request_for(tmp_path / "out", tmp_path / "empty.jsonl"))


def test_empty_documents_of_all_parts_are_left_out_and_counted(tmp_path: Path) -> None:
    """No error, with the strictest settings; the ids are those without them."""
    texts = make_documents(30)
    full, sparse = tmp_path / "full.jsonl", tmp_path / "sparse.jsonl"
    write(full, texts)
    write(sparse, [text for each in texts for text in (each, "", " \n")])
    request = request_for(tmp_path / "out", sparse, part_bytes=500)
    prepared = run(request)
    assert tokens(prepared) == tokens(run(request_for(tmp_path / "out", full, tokenizer_path=prepared.tokenizer)))
    summary = summarize(prepared, request)
    assert (summary["documents"], summary["empty"], summary["rejected"]) == (30, 60, 0)
    assert summary["notes"] == [f"{sparse}: 60 empty documents are left out"]


def test_overlapping_spans_count_once() -> None:
    assert _covered([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4
