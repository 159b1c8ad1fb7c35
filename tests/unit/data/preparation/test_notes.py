"""Notes on documents: counted by their sentence, joined from parts, and said in a line for each source."""

from trainyard.config.schema import SourceConfig
from trainyard.data.preparation.notes import Notes, joined, lines
from trainyard.data.store import Noted, SourceCounts


def test_notes_are_counted_by_their_sentence_with_the_first_example() -> None:
    notes = Notes()
    for document in ([("a", "1"), ("b", "")], [], [("b", "2")], [("b", "3")]):
        notes.add(document)
    assert notes.noted() == [Noted("b", 3, ""), Noted("a", 1, "1")]


def test_the_notes_of_parts_are_joined() -> None:
    parts = [[Noted("a", 1, "1")], [], [Noted("b", 2), Noted("a", 4, "2")]]
    assert joined(parts) == [Noted("a", 5, "1"), Noted("b", 2)]
    assert joined([]) == []


def test_a_line_for_each_source_with_something_to_say() -> None:
    sources = [SourceConfig(path=name, format="messages") for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    noted = [Noted("tools are left out", 1200), Noted("a tag is wrong", 1, "<x>")]
    counts = [SourceCounts(3000, 9, empty=2, notes=noted), SourceCounts(1, 2), SourceCounts(0, 0, empty=1)]
    assert lines(sources, counts) == [
        "a.jsonl: 2 empty documents are left out; in 1,200 of 3,000 documents tools are left out; in 1 of 3,000 "
        "documents a tag is wrong, as <x>",
        "c.jsonl: 1 empty documents are left out",
    ]
