"""The command itself: its verbs, its exit codes, and what it leaves to Hydra."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from trainyard import __main__ as entry
from trainyard.commands import checkpoints, train, verbs
from trainyard.config.stages import STAGES
from trainyard.errors import DataError

Printed = pytest.CaptureFixture[str]


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """`trainyard ...` in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["trainyard", *words])
    monkeypatch.setattr(signal, "signal", lambda *_: signal.SIG_DFL)  # the handlers of the tests' own process stay
    try:
        return entry.main()
    except SystemExit as stopped:  # argparse
        return int(str(stopped.code))


def test_help_lists_every_verb_with_its_summary(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert call(monkeypatch, "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert len(verbs.VERBS) >= 7
    for name, summary in {name: row.summary for name, row in {**STAGES, **verbs.VERBS}.items()}.items():
        assert f" {name} {summary}" in said


def test_every_verb_is_a_module_of_its_name() -> None:
    modules = {file.stem for file in (ROOT / "trainyard" / "commands").glob("*.py")}
    assert modules - {"__init__", "verbs", "train"} == set(verbs.VERBS)


@pytest.mark.parametrize("verb", list(verbs.VERBS))
def test_each_verb_has_a_help_of_its_own(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    assert call(monkeypatch, verb, "--help") == 0
    assert f"usage: trainyard {verb}" in capsys.readouterr().out


def test_an_unknown_verb_is_a_mistake_that_names_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    assert call(monkeypatch, "prepair") == 2
    said = capsys.readouterr().err
    assert "prepair" in said and "'prepare'" in said and "'sft'" in said
    assert call(monkeypatch) == 2


def test_an_unknown_option_is_a_mistake(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    assert call(monkeypatch, "runs", "list", "--colour", "red") == 2
    assert "unrecognized arguments: --colour" in capsys.readouterr().err


def test_words_may_stand_behind_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    from trainyard.commands import prepare

    monkeypatch.setattr(prepare, "run", lambda arguments: seen.update(vars(arguments)) or 0)
    assert call(monkeypatch, "prepare", "sft", "a=1", "--processes", "2", "b=2") == 0
    assert (seen["stage"], seen["overrides"], seen["processes"]) == ("sft", ["a=1", "b=2"], 2)


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (DataError("one", "two"), 2, "error: one\nerror: two\n"),
        (OSError("disk full"), 1, "error: disk full\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(
    raised: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    def run(arguments: Any) -> int:
        raise raised

    monkeypatch.setattr(checkpoints, "run", run)
    assert call(monkeypatch, "checkpoints", "list", "somewhere") == code
    assert capsys.readouterr().err == said


def test_a_bug_is_no_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(arguments: Any) -> int:
        raise ValueError("a bug")

    monkeypatch.setattr(checkpoints, "run", run)
    with pytest.raises(ValueError, match="a bug"):
        call(monkeypatch, "checkpoints", "list", "somewhere")


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["-m", "trainer.learning_rate=1,2"], []])
def test_what_follows_a_stage_is_left_to_hydra(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(train, "main", lambda *given: seen.extend(given) or 75)
    assert call(monkeypatch, "sft", *words) == 75
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
