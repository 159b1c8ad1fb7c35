import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trainyard.config.compose import compose
from trainyard.control import report
from trainyard.control.report import Failure
from trainyard.rundir.directory import RunDir
from trainyard.rundir.messages import LastWords, Phase, Progress
from trainyard.rundir.status import Status


@dataclass
class Ended:
    """What a report needs of an Attempt."""

    progress: Progress = field(default_factory=lambda: Progress(step=7))
    hung: float | None = None
    killed: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    code: int = 1


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.chdir(tmp_path)
    run = RunDir(tmp_path / "r")
    run.logs.mkdir(parents=True)
    run.launcher_log.write_text("".join(f"line {number}\n" for number in range(100)))
    return run


def failure(run: RunDir, **ended: object) -> Failure:
    return report.failure(run, Ended(**ended))  # type: ignore[arg-type]


def test_the_first_rank_that_failed_is_the_cause(run: RunDir) -> None:
    LastWords(0, "RuntimeError: peer is gone", step=7, time=2.0, traceback="of rank 0").write(run)
    log = str(run.logs / "rank-1.log")
    LastWords(1, "ValueError: bad", step=6, final=True, time=1.0, traceback="of rank 1\n", log=log).write(run)
    found = failure(run)
    assert found == Failure(
        "of rank 1\nrank 1 failed first; its log is r/logs/rank-1.log\nrank 1: ValueError: bad", 6, final=True
    )
    assert found.line == "rank 1: ValueError: bad"


def test_complaints_about_a_rank_that_was_killed_are_not_the_cause(run: RunDir) -> None:
    LastWords(0, "RuntimeError: peer is gone").write(run)
    killed = failure(run, killed=[1, 3], lost=["node-b"])
    assert killed.text.startswith("failed: rank 1 and rank 3 died without a message: killed, or out of memory")
    assert (killed.step, killed.final) == (7, False)
    lost = failure(run, lost=["node-b"])
    assert lost.line == "failed: node-b is gone, or ssh does not get through; see r/logs"
    assert failure(run, hung=25.0, killed=[1]).line == (
        "failed: no progress for 25 s (launch.hang_timeout_s); the stacks of all ranks are in r/logs"
    )


def test_without_a_message_the_end_of_the_launchers_log_is_shown(run: RunDir) -> None:
    found = failure(run, code=9)
    assert found.text.splitlines() == [
        *(f"line {number}" for number in range(100 - report.LOG_TAIL, 100)),
        "failed: a rank or the launcher ended without a message (exit code 9); see r/logs",
    ]


def test_a_rollback_is_told_from_a_failure(run: RunDir) -> None:
    assert not report.rolled_back(run)
    LastWords(0, "RuntimeError: bus").write(run)
    assert not report.rolled_back(run)
    LastWords(1, "RollbackError: ", rollback=True).write(run)
    assert report.rolled_back(run)


def test_the_summary_of_a_finished_run(run: RunDir, tmp_path: Path) -> None:
    config = compose("pretrain", [f"paths.outputs={tmp_path}"])
    final = {"loss": 2.5, "first_loss": 9.0, "eval_loss": 2.75}
    lines = report.finished(config, run, Status(step=20, tokens_seen=10240, final=final)).splitlines()
    assert lines[0] == "r: finished, 20 steps, 10,240 tokens"
    assert lines[1:3] == ["  train loss     9.0000 -> 2.5000", "  held-out loss  2.7500"]
    assert [line.split()[0] for line in lines[3:]] == ["model", "dashboard", "next"]
    run.samples.touch()
    assert "samples" in report.finished(config, run, Status())


def test_the_last_line_of_a_log(run: RunDir) -> None:
    (run.logs / "a.log").write_text("Traceback\nValueError: bad\n\n")
    assert report.last_line(run.logs / "a.log") == "ValueError: bad. See r/logs/a.log"
    assert report.last_line(run.logs / "none.log") == "no message. See r/logs/none.log"


def test_how_a_run_goes_on() -> None:
    assert report.again(compose("pretrain", [])) == "the same command resumes"
    never = compose("pretrain", ["run.resume=never"])
    assert report.again(never) == "the same command without run.resume=never resumes"


def test_a_rank_whose_last_words_had_no_room(run: RunDir) -> None:
    LastWords.of(run, 1).touch()
    last = failure(run)
    assert last.line.startswith(f"failed: {run.path}: there is no room on its disk, ")
    assert last.line.endswith("there is no checkpoint yet, the same command goes on from there") and last.final


def test_a_rank_that_left_no_word_on_a_full_disk(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FULL_BYTES", 1 << 60)
    for left in ({"killed": [1]}, {}):
        last = failure(run, **left)
        assert last.line.startswith(f"failed: {run.path}: there is no room on its disk, ") and last.final


def test_what_a_rank_that_was_killed_was_doing(run: RunDir) -> None:
    evaluating = Progress(Phase.EVALUATING, step=7)
    assert failure(run, killed=[1], progress=evaluating).line == (
        "failed: rank 1 died without a message: killed, or out of memory (dmesg tells) while evaluating; "
        "if memory was short, lower trainer.per_device_eval_batch_size. See r/logs"
    )


def test_a_preparation_that_was_killed_needs_fewer_processes() -> None:
    said = report.preparation_died("sft", -9)
    assert said.startswith("the preparation of the data was killed by SIGKILL; if memory was short, prepare by `")
    assert "prepare sft --processes 1` and the same settings" in said
    assert "died (exit code 3); if" in report.preparation_died("sft", 3)


def test_an_error_of_a_run_directory(run: RunDir) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run.status))
    assert report.trouble(run, full).startswith(f"{run.status}: there is no room on its disk, ")
    assert report.trouble(run, OSError(errno.EIO, "lost")) == f"run directory {run.path}: [Errno 5] lost"


def test_paths_are_whole_once_the_working_directory_is_gone(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = run.path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert str(run.logs) in failure(run).line
