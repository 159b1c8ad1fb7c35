import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import xxhash
from conftest import ROOT

from trainyard.files import (
    BLOCK_BYTES,
    PATIENCE_S,
    NoLocksError,
    digest,
    disk_is_full,
    first_line,
    is_forbidden,
    json_lines,
    lock_owner,
    locked,
    read_json,
    staged,
    this_process,
    try_lock,
    write_bytes,
    write_json,
    write_text,
)

HOLD = """
import os, sys
from pathlib import Path
from trainyard.files import this_process, try_lock
with try_lock(Path(sys.argv[1]), this_process()) as mine:
    print(mine, flush=True)
    sys.stdin.readline()
print("released", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def another_process(lock):
    """A process that takes a lock, releases it when it reads a line, and ends with the next line."""
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_first_line_of_an_error():
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError()"


def test_json_that_cannot_be_read_is_empty(tmp_path):
    file = tmp_path / "a.json"
    assert read_json(file) == {}
    for content in ("", "{", "[1]", "3", b"\xff".decode("latin-1")):
        file.write_text(content)
        assert read_json(file) == {}
    write_json(file, {"a": "ü"})
    assert read_json(file) == {"a": "ü"}


def test_a_file_is_replaced_in_one_step(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with file.open() as before:
        write_text(file, "new ü")
        assert before.read() == "old"
    assert file.read_text(encoding="utf-8") == "new ü"
    write_bytes(file, b"durable", durable=True)
    assert file.read_bytes() == b"durable"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "directory", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_rows_become_lines_of_json():
    rows = [{"step": 1, "text": "ü\u2028"}, {"step": 2}]
    assert json_lines(rows) == '{"step": 1, "text": "\\u00fc\\u2028"}\n{"step": 2}\n'
    assert json_lines(iter(rows), ensure_ascii=False) == '{"step": 1, "text": "ü\u2028"}\n{"step": 2}\n'
    assert json_lines([]) == ""


def test_few_files_are_written_in_place():
    """What others may read meanwhile is replaced in one step; these files nobody reads so early."""
    found = {
        str(file.relative_to(ROOT / "trainyard"))
        for file in (ROOT / "trainyard").rglob("*.py")
        if re.search(r"\.write_text\(", file.read_text("utf-8"))
    }
    assert found == {
        "checkpoint/convert.py", "checkpoint/pretrained.py", "commands/runs.py", "control/launchers/local.py",
        "data/preparation/part_writer.py", "data/sequences/plans.py",
    }  # fmt: skip


@pytest.mark.parametrize("shared", [False, True])
def test_a_directory_is_built_aside_and_takes_its_place_whole(tmp_path, shared):
    target = tmp_path / "deep" / "made"
    with staged(target, shared=shared) as staging:
        (staging / "file").write_text("one")
        assert not target.exists() and staging.parent == target.parent
    assert [path.name for path in target.parent.iterdir()] == ["made"]
    assert (target / "file").read_text() == "one"


@pytest.mark.parametrize("shared", [False, True])
def test_an_error_leaves_nothing_beside_the_target(tmp_path, shared):
    with pytest.raises(KeyError), staged(tmp_path / "made", shared=shared) as staging:
        (staging / "file").write_text("one")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_who_make_the_same_directory_wins(tmp_path):
    target = tmp_path / "made"
    with staged(target, shared=True) as slower:
        (slower / "file").write_text("slower")
        with staged(target, shared=True) as faster:
            (faster / "file").write_text("faster")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (target / "file").read_text() == "faster"
    with pytest.raises(OSError), staged(target) as third:
        (third / "file").write_text("third")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (target / "file").read_text() == "faster"
    (tmp_path / "file").touch()
    with pytest.raises(OSError), staged(tmp_path / "file", shared=True):
        pass  # a file in the place of the directory is no result of another process


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_the_digest_of_a_file_is_that_of_its_content(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "a").write_bytes(content)
    assert digest(tmp_path / "a") == xxhash.xxh3_128_hexdigest(content)


def test_one_process_at_a_time(tmp_path):
    lock = tmp_path / "a.lock"
    assert lock_owner(lock) is None and not lock.exists()  # a look leaves nothing
    with another_process(lock) as other:
        assert other.stdout.readline() == "True\n"
        assert lock_owner(lock) == f"pid {other.pid} on {os.uname().nodename}" == lock.read_text()
        with try_lock(lock, "mine") as mine:
            assert not mine
        assert lock.read_text().startswith(f"pid {other.pid} ")  # who fails to take it changes nothing
        print(file=other.stdin, flush=True)
        assert other.stdout.readline() == "released\n"
        with try_lock(lock, "mine") as mine:
            assert mine
            assert lock_owner(lock) == lock.read_text() == "mine"
    assert lock_owner(lock) is None


def test_the_lock_of_a_killed_process_holds_nothing(tmp_path):
    lock = tmp_path / "a.lock"
    with another_process(lock) as other:
        assert other.stdout.readline() == "True\n"
        other.kill()
        other.wait()
        assert lock_owner(lock) is None
        with try_lock(lock) as mine:
            assert mine
    assert lock.read_text() == ""


@pytest.mark.parametrize("start", ["fork", "exec"])
def test_children_of_a_killed_process_do_not_keep_its_lock(tmp_path, start):
    lock = tmp_path / "a.lock"
    child = "os.fork() or __import__('time').sleep(60)"
    if start == "exec":
        child = "__import__('subprocess').Popen(['sleep', '60'], close_fds=False)"
    code = HOLD.replace("    print(mine", f"    {child}\n    print(mine")
    command = [sys.executable, "-c", code, str(lock)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as holder:
        try:
            assert holder.stdout.readline() == "True\n"
            holder.kill()
            holder.wait()
            deadline = time.monotonic() + 20  # a child that was forked gives the lock up when its turn comes
            while lock_owner(lock) is not None and time.monotonic() < deadline:
                time.sleep(0.01)
            assert lock_owner(lock) is None
            os.killpg(holder.pid, 0)  # the child lives
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_whoever_looks_does_not_keep_others_from_a_lock(tmp_path):
    lock = tmp_path / "a.lock"
    lock.touch()
    looks = (
        "import sys, time; from pathlib import Path; from trainyard.files import lock_owner\n"
        "until = time.monotonic() + 1.0; lock = Path(sys.argv[1]); print('begun', flush=True)\n"
        "while time.monotonic() < until: lock_owner(lock)"
    )
    with subprocess.Popen([sys.executable, "-c", looks, str(lock)], stdout=subprocess.PIPE, text=True) as looking:
        assert looking.stdout.readline() == "begun\n"
        taken = 0
        while looking.poll() is None:
            with try_lock(lock, this_process(), patience_s=20 * PATIENCE_S) as mine:
                taken += mine
        assert taken > 10


def test_two_who_look_do_not_see_each_other(tmp_path):
    lock = tmp_path / "a.lock"
    lock.write_text("pid 1 on elsewhere")
    looks = (
        "import sys, time; from pathlib import Path; from trainyard.files import lock_owner\n"
        "until = time.monotonic() + 0.5; lock = Path(sys.argv[1])\n"
        "while time.monotonic() < until: assert lock_owner(lock) is None"
    )
    processes = [subprocess.Popen([sys.executable, "-c", looks, str(lock)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert lock.read_text() == "pid 1 on elsewhere"


def test_a_lock_does_not_make_its_directory_anew(tmp_path):
    with pytest.raises(FileNotFoundError), try_lock(tmp_path / "gone" / "a.lock"):
        raise AssertionError
    assert not (tmp_path / "gone").exists()


def test_locked_waits(tmp_path):
    made = tmp_path / "deep" / "made"
    code = (
        "import sys, time; from pathlib import Path; from trainyard.files import locked\n"
        "with locked(Path(sys.argv[1])):\n print('locked', flush=True); time.sleep(0.3)\n Path(sys.argv[1]).touch()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(made)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        assert not made.exists()
        started = time.monotonic()
        with locked(made):
            assert made.exists()
        assert time.monotonic() - started > 0.2
    assert sorted(path.name for path in made.parent.iterdir()) == [".made.lock", "made"]


def test_a_full_disk_is_known_by_number_by_text_and_by_cause() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    later = RuntimeError("the save failed")
    later.__cause__ = full
    quota = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    rust = Exception("No space left on device (os error 28)")
    assert all(map(disk_is_full, (full, later, quota, rust)))
    explained = OSError(errno.ENOSPC, "/dev/shm is full: give the container more")
    assert not any(map(disk_is_full, (None, explained, OSError(errno.EIO, "lost"), ValueError("full"))))


@pytest.mark.parametrize("answer", [OSError(errno.ENOLCK, "No locks available"), OSError(errno.ENOSYS, "not there")])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, answer):
    lock = tmp_path / ".lock"
    lock.touch()

    def refuse(*_, **__):
        raise answer

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    reason = f"{tmp_path}: its file system locks no files ({answer.strerror}), so two commands could write to one run"
    with pytest.raises(NoLocksError, match=re.escape(reason)), try_lock(lock):
        pass
    with pytest.raises(NoLocksError, match=re.escape(reason)):
        lock_owner(lock)


def test_who_may_write_in_a_directory_may_take_its_locks(tmp_path):
    before = os.umask(0o022)
    try:
        for mode, wanted in ((0o700, 0o644), (0o775, 0o664), (0o777, 0o666)):
            directory = tmp_path / str(mode)
            directory.mkdir()
            directory.chmod(mode)
            with try_lock(directory / ".lock") as mine:
                assert mine and (directory / ".lock").stat().st_mode & 0o777 == wanted
    finally:
        os.umask(before)


def test_what_permissions_refuse():
    assert all(is_forbidden(OSError(number, "no")) for number in (errno.EACCES, errno.EPERM, errno.EROFS))
    assert not is_forbidden(OSError(errno.ENOENT, "no")) and not is_forbidden(ValueError("no"))
