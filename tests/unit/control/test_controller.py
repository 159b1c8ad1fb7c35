"""A run shows once, at its start, where the values come from that nobody gave."""

import errno
from pathlib import Path
from typing import Any

import pytest

from trainyard.config.compose import compose
from trainyard.control import controller
from trainyard.errors import FINISHED, WRONG
from trainyard.machine.devices import CPU
from trainyard.machine.signals import StopSignals

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stands in for the supervisor: notes what it is given, and finishes."""
    seen: list[Any] = []

    class Supervisor:
        def __init__(self, *given: Any):
            seen.append(given)

        def run(self) -> int:
            print("supervised")
            return FINISHED

    monkeypatch.setattr(controller, "Supervisor", Supervisor)
    monkeypatch.setattr(controller, "detect", lambda: CPU)
    return seen


def test_the_origins_are_shown_before_anything_starts(
    supervised: list[Any], tmp_path: Path, corpus_file: Path, capsys: Printed
) -> None:
    given = [
        f"paths.outputs={tmp_path}", f"data.sources=[{{path: '{corpus_file}', format: jsonl}}]", "data.block_size=64",
        "trainer=tiny", "data=stdlib", "deepspeed=none", "model=llama_tiny", "run.name=mine", "launch.num_devices=1",
    ]  # fmt: skip
    assert controller.run(compose("pretrain", given), given, StopSignals()) == FINISHED
    assert capsys.readouterr().out.splitlines() == [
        "filled in: tokenizer.path=new                     (a BPE of 2,048 tokens, trained on the data)",
        "filled in: trainer.per_device_train_batch_size=8  "
        "(the largest up to 8 that divides trainer.global_batch_size=8 over 1 rank)",
        "filled in: trainer.gradient_accumulation_steps=1  (trainer.global_batch_size=8 over 1 rank x 8 sequences)",
        "supervised",
    ]
    assert len(supervised) == 1


def test_a_wrong_request_shows_its_mistakes_alone(supervised: list[Any], tmp_path: Path, capsys: Printed) -> None:
    given = [f"paths.outputs={tmp_path}", "data.packing=tight"]
    assert controller.run(compose("pretrain", given), given, StopSignals()) == WRONG
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: data.packing=tight: ")
    assert supervised == []


def test_a_file_system_without_locks_is_refused(
    supervised: list[Any], tmp_path: Path, corpus_file: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    monkeypatch.setattr("fcntl.flock", refuse)
    given = [f"paths.outputs={tmp_path}", f"data.sources=[{{path: '{corpus_file}', format: jsonl}}]"]
    given += ["trainer=tiny", "deepspeed=none", "model=llama_tiny", "launch.num_devices=1", "run.name=mine"]
    for _ in range(2):  # without the lock file, and with it
        assert controller.run(compose("pretrain", given), given, StopSignals()) == WRONG
        assert "its file system locks no files (No locks available)" in capsys.readouterr().err
    assert supervised == []
