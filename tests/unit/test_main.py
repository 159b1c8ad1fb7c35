"""The command itself: what it leaves to Hydra, and how fast it answers."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from trainyard.commands import train

Verb = Callable[..., int]


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["-m", "trainer.learning_rate=1,2"], []])
def test_what_follows_a_stage_is_left_to_hydra(words: list[str], verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(train, "main", lambda *given: seen.extend(given) or 75)
    assert verb("sft", *words) == 75
    assert seen[:2] == ["sft", words]
    assert seen[2].count == 0  # stop signals are noted by now


def test_the_answer_comes_at_once_and_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, trainyard.__main__ as entry; sys.argv = ['trainyard', *sys.argv[1:]]\n"
        "try: code = entry.main()\n"
        "except SystemExit as stopped: code = stopped.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'hydra', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(code if not heavy else str(heavy))"
    )
    for words, wanted in (["--help"], 0), (["prepair"], 2):
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == wanted, done.stderr
        assert time.monotonic() - started < 5  # 0.1 s on an idle machine


def test_the_module_answers_by_its_own_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainyard", "--help"], capture_output=True, text=True, cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "usage: python -m trainyard" in done.stdout
