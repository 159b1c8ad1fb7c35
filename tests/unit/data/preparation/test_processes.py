"""The division of a preparation among processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.config.schema import DataConfig, SourceConfig
from trainyard.data.preparation import division
from trainyard.data.preparation import processes as preparation
from trainyard.data.preparation.processes import worthwhile
from trainyard.data.preparation.request import DataRequest
from trainyard.machine.processes import START

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


def test_a_preparation_begins_with_a_bounded_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child of ours has the variables from its start; a command that a user types starts itself again, once."""
    command, env = preparation.child("pretrain", ["a=1"], {"PATH": "/bin", "MALLOC_ARENA_MAX": "4"})
    assert command[1:] == [START, "trainyard", "prepare", "pretrain"]
    assert env == {
        "PATH": "/bin",
        "MALLOC_ARENA_MAX": "4",
        "MALLOC_MMAP_THRESHOLD_": "1048576",
        "TRAINYARD_OVERRIDES": '["a=1"]',
    }
    code = (
        "import os, trainyard.data.preparation.processes as processes\n"
        "print('started', flush=True)\n"
        "processes.bound_heap()\n"
        "print(*(os.environ[name] for name in processes.HEAP))"
    )
    for name in preparation.HEAP:
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n") == ["started", "started", "1048576 2", ""], done.stderr
