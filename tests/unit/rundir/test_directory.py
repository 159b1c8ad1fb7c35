"""The lock of a run directory."""

import fcntl
from pathlib import Path

import pytest

from trainyard import files
from trainyard.rundir.directory import RunDir
from unit.run_dirs import make_run


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
