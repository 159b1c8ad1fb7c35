"""A rank's process, from its log to its exit code."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, clean_env

from trainyard.rundir.directory import RunDir
from trainyard.rundir.messages import LastWords

START = """
import os, signal, sys
from trainyard.errors import FinalError, RollbackError
from trainyard.training.process import rank_process
with rank_process(sys.argv[1:]) as this:
"""


def run(directory: Path, *lines: str, checkpoint: str = "") -> tuple[int, RunDir, str]:
    """Rank 1 of 2 that does these lines; its exit code and its log."""
    (directory / "logs").mkdir()
    code = START + "".join(f"    {line}\n" for line in lines)
    arguments = [str(directory / "config.yaml"), *([checkpoint] if checkpoint else [])]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=clean_env(RANK="1", WORLD_SIZE="2"), cwd=ROOT, capture_output=True
    )
    assert (done.stdout, done.stderr) == (b"", b""), "all output goes to the log"
    return done.returncode, RunDir(directory), (directory / "logs" / "rank-1.log").read_text()


def test_a_rank_that_ends_in_order_leaves_only_its_log(tmp_path: Path) -> None:
    lines = ["print(this.rank, this.world_size, this.resume_step)", "os.system('echo from C')"]
    code, directory, log = run(tmp_path, *lines, checkpoint="somewhere/checkpoint-7")
    assert code == 0 and log.splitlines()[-2:] == ["1 2 7", "from C"]
    assert not LastWords.read_all(directory) and not list(directory.logs.glob("*.pid"))


@pytest.mark.parametrize(
    ("error", "line", "final", "rollback"),
    [
        ("ValueError('no\\n  way')", "ValueError: no way", False, False),
        ("FinalError('never')", "FinalError: never", True, False),
        ("RollbackError('back')", "RollbackError: back", False, True),
        ("SystemExit(3)", "SystemExit: 3", False, False),
    ],
)
def test_an_exception_becomes_the_last_words(
    tmp_path: Path, error: str, line: str, final: bool, rollback: bool
) -> None:
    before = time.time()
    code, directory, log = run(tmp_path, "this.step = 4", f"raise {error}")
    (words,) = LastWords.read_all(directory)
    assert code == 1 and "Traceback" in log
    assert (words.rank, words.step, words.error) == (1, 4, line)
    assert (words.final, words.rollback) == (final, rollback)
    assert before <= words.time <= time.time()
    assert Path(words.log).name == "rank-1.log" and error.partition("(")[0] in words.traceback


def test_a_signal_to_stop_is_only_noted(tmp_path: Path) -> None:
    lines = ["os.kill(os.getpid(), signal.SIGTERM)", "print(this.stop_signalled, this.wants_to_stop())"]
    code, _, log = run(tmp_path, *lines)
    assert code == 0 and log.splitlines()[-1] == "SIGTERM True"


def test_a_rank_that_runs_is_known_by_its_process(tmp_path: Path) -> None:
    lines = ["print(next(this.run_dir.logs.glob('*.pid')).read_text().split()[1] == str(os.getpid()))"]
    code, _, log = run(tmp_path, *lines)
    assert code == 0 and log.splitlines()[-1] == "True"


def test_on_a_full_disk_a_rank_still_ends_at_once_as_one_that_failed(tmp_path: Path) -> None:
    lines = [
        "import atexit",
        "from trainyard.rundir import messages",
        "def no_room(*args): raise OSError(28, 'No space left on device')",
        "messages.write_json = no_room",
        "atexit.register(print, 'an orderly exit')",
        "sys.stderr = open('/dev/full', 'w', buffering=1)",
        "raise ValueError('bad')",
    ]
    code, directory, log = run(tmp_path, *lines)
    assert code == 1 and "orderly" not in log
    assert LastWords.of(directory, 1).read_bytes() == b""


def test_a_full_disk_is_named_and_is_not_tried_again(tmp_path: Path) -> None:
    _, directory, _ = run(tmp_path, "open('/dev/full', 'w', buffering=1).write('a line\\n')")
    (words,) = LastWords.read_all(directory)
    assert words.final
    assert words.error.startswith(f"OSError: {tmp_path}: there is no room on its disk, ")
    assert words.error.endswith("there is no checkpoint yet, the same command goes on from there")


def test_memory_that_was_short_is_named_with_what_needs_less(tmp_path: Path) -> None:
    _, directory, _ = run(tmp_path, "this.note(phase='evaluating')", "bytearray(1 << 62)")
    (words,) = LastWords.read_all(directory)
    assert not words.final
    assert words.error == "MemoryError: out of memory while evaluating: lower trainer.per_device_eval_batch_size."
