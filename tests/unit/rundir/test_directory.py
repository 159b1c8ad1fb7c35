"""Where a run lies, and the lock of its directory."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard import files
from trainyard.config.compose import compose
from trainyard.rundir.directory import RunDir, run_path, unfit
from unit.run_dirs import make_run

OWNS = """
import sys
from pathlib import Path
from trainyard.rundir.directory import RunDir
run = RunDir(Path(sys.argv[1]))
print(run.acquire(), flush=True)
sys.stdin.readline()
"""


def test_a_run_lies_under_its_stage_and_its_sweep(tmp_path: Path) -> None:
    config = compose("pretrain", [f"paths.outputs={tmp_path}", "run.name=a"])
    assert run_path(config) == tmp_path / "pretrain" / "a"
    config.run.sweep = "rates"
    assert run_path(config) == tmp_path / "pretrain" / "sweeps" / "rates" / "a"


def test_a_directory_belongs_to_one_process_until_that_ends(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "deep" / "run")
    assert run.holder() is None and not run.path.exists()
    command = [sys.executable, "-c", OWNS, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "True\n"
        name = f"pid {owner.pid} on {os.uname().nodename}"
        assert run.holder() == (run.path / ".lock").read_text() == name
        assert not run.acquire()
        run.release()  # nothing is released that another process has
        assert run.holder() == name
        owner.kill()
    assert run.holder() is None
    assert run.acquire()
    assert str(run.holder()).startswith(f"pid {os.getpid()} on ")
    run.release()
    assert run.holder() is None


def test_a_lock_file_of_the_first_version_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("pid 1234567 on a-host-with-a-very-long-name-that-has-left")
    run = RunDir(tmp_path)
    assert run.holder() is None
    assert run.acquire()
    assert (tmp_path / ".lock").read_text() == run.holder() == files.this_process()


def test_looking_at_the_lock_does_not_keep_a_run_from_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    run.acquire()
    run.release()
    looking = (run.path / ".lock").open()
    fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as holder() does, for a moment
    monkeypatch.setattr(files.time, "sleep", lambda seconds: looking.close())
    assert run.acquire()
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    assert not RunDir(run.path).acquire()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "ä" * 101])
def test_names_that_cannot_name_a_directory(name: str) -> None:
    assert "names a directory" in str(unfit(name))
    assert unfit("中文 a'b=1,c") is None
