"""A run shows once, at its start, where the values come from that nobody gave."""

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
        "trainer=tiny", "deepspeed=none", "model=llama_tiny", "run.name=mine", "launch.num_devices=1",
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
