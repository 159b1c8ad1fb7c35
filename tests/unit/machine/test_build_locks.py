"""Locks of builds: one that a process holds, one that is left over, and one that may be another's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.machine import build_locks

HOLD = "import sys, time; held = open(sys.argv[1], 'w'); print('held', flush=True); time.sleep(60)"


def test_a_lock_is_held_as_long_as_a_process_has_it_open(tmp_path: Path) -> None:
    lock = tmp_path / "py311_cpu" / "adam" / "lock"
    lock.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert list(build_locks.remove_dead(tmp_path)) == [
            f"{lock}: process {holder.pid} is building adam; ranks that need it wait for that"
        ]
        holder.kill()
    assert lock.exists()
    assert list(build_locks.remove_dead(tmp_path)) == [
        f"{lock}: removed; a build of adam was killed and left it, and ranks would wait for ever"
    ]
    assert not lock.exists()
    assert list(build_locks.remove_dead(tmp_path)) == []


def test_another_users_lock_is_named_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adam").mkdir()
    (tmp_path / "adam" / "lock").touch()
    other = os.geteuid() + 1
    monkeypatch.setattr(build_locks.os, "geteuid", lambda: other)
    (message,) = build_locks.remove_dead(tmp_path)
    assert "another user's may: delete it if none builds adam" in message
    assert (tmp_path / "adam" / "lock").exists()


@pytest.mark.parametrize(
    ("variables", "directory"),
    [
        ({"TORCH_EXTENSIONS_DIR": "/builds", "XDG_CACHE_HOME": "/cache"}, "/builds"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/torch_extensions"),
        ({"HOME": "/home/a"}, "/home/a/.cache/torch_extensions"),
    ],
)
def test_the_directory_is_the_one_that_torch_builds_in(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], directory: str
) -> None:
    for name in ("TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert build_locks.builds() == Path(directory)
