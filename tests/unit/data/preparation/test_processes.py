"""The division of a preparation among processes."""

from pathlib import Path

import pytest

from trainyard.config.schema import DataConfig, SourceConfig
from trainyard.data.preparation import division
from trainyard.data.preparation import processes as preparation
from trainyard.data.preparation.processes import worthwhile
from trainyard.data.preparation.request import DataRequest

MEBIBYTE = (b'{"messages": []}'.ljust(1023) + b"\n") * 1024


def request_for(stage: str, *files: Path) -> DataRequest:
    form = "messages" if stage == "sft" else "jsonl"
    sources = [SourceConfig(path=str(file), format=form) for file in files]
    return DataRequest(files[0].parent, stage, DataConfig(sources=sources), None, vocab_size=300, seed=0)


@pytest.mark.parametrize(
    ("mebibytes", "parts", "processes"), [(3, 1, [1, 1, 1]), (15, 4, [1, 1, 1]), (33, 9, [1, 2, 3])]
)
def test_conversations_are_shared_early(tmp_path: Path, mebibytes: int, parts: int, processes: list[int]) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_bytes(MEBIBYTE * mebibytes)
    request = request_for("sft", file)
    assert len(division.parts(request)) == parts
    assert [worthwhile(request, cores) for cores in (1, 2, 64)] == processes
    assert worthwhile(request_for("pretrain", file), 64) == 1


def test_no_more_processes_than_parts_and_than_there_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, lines = tmp_path / "chats.json", tmp_path / "chats.jsonl"
    whole.write_bytes(b"[" + b" " * (40 << 20) + b"]")  # a list is not divided
    lines.write_bytes(MEBIBYTE * 40)
    assert worthwhile(request_for("sft", whole), 64) == 1
    assert worthwhile(request_for("sft", lines), 64) == 3
    monkeypatch.setattr(preparation, "MOST_PROCESSES", 2)
    assert worthwhile(request_for("sft", lines), 64) == 2
