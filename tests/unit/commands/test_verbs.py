"""The verbs: their helps, their words, and what their errors become."""

import errno
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from trainyard import __main__ as entry
from trainyard.commands import checkpoints, verbs
from trainyard.config import local
from trainyard.config.stages import STAGES
from trainyard.errors import DataError
from trainyard.files import NoLocksError

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


def test_a_wrong_file_of_this_machine_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Printed
) -> None:
    """`runs` takes its folder from the file while it reads the command line."""
    file = tmp_path / "local.yaml"
    file.write_text("paths: [1")
    monkeypatch.setenv(local.VARIABLE, str(file))
    assert call(monkeypatch, "runs", "list") == 2
    assert capsys.readouterr().err.startswith(f"error: {file}:1: cannot be read: ")


def test_a_bug_is_no_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(arguments: Any) -> int:
        raise ValueError("a bug")

    monkeypatch.setattr(checkpoints, "run", run)
    with pytest.raises(ValueError, match="a bug"):
        call(monkeypatch, "checkpoints", "list", "somewhere")


def test_without_locks_a_request_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    def run(_: object) -> int:
        raise NoLocksError(Path("outputs/.lock"), OSError(errno.ENOLCK, "No locks available"))

    monkeypatch.setattr("trainyard.commands.runs.run", run)
    assert call(monkeypatch, "runs", "list") == 2
    assert capsys.readouterr().err.startswith("error: outputs: its file system locks no files (No locks available)")
