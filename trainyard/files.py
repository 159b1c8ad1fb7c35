"""Files and directories that several processes share: made in one step, read as JSON, digested, locked."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash

BLOCK_BYTES = 4 << 20
"""A file is digested in blocks of this size."""

PATIENCE_S = 0.05
"""Seconds for which a lock is tried again when `lock_owner` of another process may be looking at it."""

_POLL_S = 0.01

_FULL = (errno.ENOSPC, errno.EDQUOT)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What the kernel answers where a file system has no locks."""

_open_locks: set[int] = set()
"""Descriptors of the lock files that this process holds or tries to hold."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its repr when the message is empty."""
    return (str(error).strip() or repr(error)).splitlines()[0]


class NoLocksError(OSError):
    """A file system on which nothing can be locked."""

    def __init__(self, file: Path, error: BaseException):
        reason = getattr(error, "strerror", None) or first_line(error)
        super().__init__(
            f"{file.parent}: its file system locks no files ({reason}), so two commands could write to one run; set "
            f"paths.outputs to a local disk, or have it mounted with locks (NFS: without nolock, Lustre: with flock)"
        )


def is_forbidden(error: BaseException) -> bool:
    """Is it an access that another account's permissions, or a file system that is read-only, refuse?"""
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def disk_is_full(error: BaseException | None) -> bool:
    """Is it a write, or does it come from a write, for which a disk or a quota had no room?

    Libraries in Rust and C++ tell so in their text alone. An error whose text has a reason of its own is not meant.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error.strerror == os.strerror(error.errno) or _tells_full(error)
        if _tells_full(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _tells_full(error: BaseException) -> bool:
    return any(os.strerror(number) in str(error) for number in _FULL)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when the file is missing, cannot be read or holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a mapping that are named like a field of the dataclass `kind`; keys of another version are not."""
    return {field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values}


def write_json(path: Path, value: Any) -> None:
    """Replaces a file by JSON in one step, see write_bytes."""
    write_text(path, json.dumps(value, indent=1))


def json_lines(rows: Iterable[Mapping[str, Any]], *, ensure_ascii: bool = True) -> str:
    """Rows as lines of JSON, each with its line break; `ensure_ascii` as in json.dumps."""
    return "".join(json.dumps(row, ensure_ascii=ensure_ascii) + "\n" for row in rows)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by text in UTF-8 in one step, see write_bytes."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replaces a file in one step: a reader sees the old content or the new, and never a part.

    Args:
        durable: wait until the content is on the disk before it replaces the old one.
    """
    staging = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with staging.open("wb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        staging.replace(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def staged(target: Path, *, shared: bool = False) -> Iterator[Path]:
    """A directory to write into, which becomes `target` in one step at the end of the block.

    Other processes see the whole directory or nothing. After an error nothing is left beside `target`.

    Args:
        shared: other processes may make the same at the same time; the first one's directory stays.

    Raises:
        OSError: the directory cannot be made, or `target` is there already and not empty.
    """
    staging = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        staging.mkdir(parents=True)
        yield staging
        try:
            staging.rename(target)  # onto an empty directory too
        except OSError:
            if not (shared and target.is_dir()):
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def digest(file: Path) -> str:
    """The xxh3_128 digest of a file's content, in hex."""
    state = xxhash.xxh3_128()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            state.update(block)
    return state.hexdigest()


def this_process() -> str:
    """`pid 123 on host`: the owner's text of a lock."""
    return f"pid {os.getpid()} on {socket.gethostname()}"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for the lock of a file or directory, and holds it while the block makes that file or directory.

    The lock file is `.<name>.lock` beside it. The lock of a dead process holds nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with try_lock(path.with_name(f".{path.name}.lock"), patience_s=float("inf")):
        yield


@contextlib.contextmanager
def try_lock(path: Path, owner: str = "", *, patience_s: float = 0.0) -> Iterator[bool]:
    """Takes the lock file `path` for the length of the block; yields False when another holder has it.

    The lock ends with the process that took it, however it dies: a forked child closes its copy, and other children
    never get one. `filelock.lock_descriptor` takes the kernel's lock on the open file. `filelock.FileLock` would do
    more than is wanted here: it makes the directory anew when another process has renamed it meanwhile.

    Args:
        owner: a text for `lock_owner` and for people, written into the lock file.
        patience_s: seconds for which the lock is tried again.

    Whoever may write in the directory may take the lock.

    Raises:
        OSError: the lock file cannot be opened (FileNotFoundError: its directory is missing).
        NoLocksError: the file system has no locks.
    """
    from filelock import lock_descriptor, unlock_descriptor  # 0.1 s, which an answer to a mistake need not pay

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    _open_locks.add(descriptor)
    mine = False
    try:
        _open_to_all(descriptor, path)
        deadline = time.monotonic() + patience_s
        for_ever = patience_s == float("inf")
        try:
            while not (mine := lock_descriptor(descriptor, blocking=for_ever)) and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        except (OSError, NotImplementedError) as error:
            if isinstance(error, NotImplementedError) or error.errno in _NO_LOCKS:
                raise NoLocksError(path, error) from error
            raise
        if mine:
            os.truncate(descriptor, 0)
            os.write(descriptor, owner.encode())
        yield mine
    finally:
        if descriptor in _open_locks:  # a forked child has closed it already
            _open_locks.discard(descriptor)
            if mine:
                unlock_descriptor(descriptor)
            os.close(descriptor)


def lock_owner(path: Path) -> str | None:
    """The `owner` text of the process that holds a lock file; None when nobody does. Changes nothing.

    It looks with a shared lock, which filelock does not offer, so that two who look never see each other; a process
    that takes the lock at this moment tries again (PATIENCE_S). The file may be read-only.

    Raises:
        NoLocksError: the file system has no locks.
    """
    try:
        stream = path.open("r", encoding="utf-8")
    except OSError:
        return None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return stream.read().strip() or "another process"
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise NoLocksError(path, error) from error
            raise
    return None


def _open_to_all(descriptor: int, path: Path) -> None:
    """Lets a lock file be written by everybody who may write in its directory, whatever this account's umask."""
    status = os.fstat(descriptor)
    wanted = status.st_mode & 0o777 | path.parent.stat().st_mode & 0o022
    if wanted != status.st_mode & 0o777 and status.st_uid == os.geteuid():
        os.fchmod(descriptor, wanted)


def _close_locks() -> None:
    """In a forked child: closes its copies of the parent's locks, which would keep them held."""
    for descriptor in _open_locks:
        os.close(descriptor)
    _open_locks.clear()


os.register_at_fork(after_in_child=_close_locks)
