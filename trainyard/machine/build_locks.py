"""Locks that builds of PyTorch extensions leave behind when they are killed.

DeepSpeed builds parts of itself as such extensions, in the ranks.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

ONE_MACHINE = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs")
"""File systems on which no other machine can hold a lock."""


def builds() -> Path:
    """The directory in which torch.utils.cpp_extension builds, found without importing torch."""
    given, cache = os.environ.get("TORCH_EXTENSIONS_DIR"), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(given or f"{cache}/torch_extensions").expanduser()


def remove_dead(directory: Path) -> Iterator[str]:
    """Removes the locks in a directory of builds that no process holds any more.

    PyTorch waits for such a file for ever, silently. The builder keeps the file open as long as the build lasts
    (torch.utils.file_baton), so a file that no process has open was left behind. That is certain only for processes of
    this user on this machine: a lock of another user, or on a file system that machines share, is reported and stays.
    The processes of a container that shares nothing but this directory are not seen.

    Yields:
        A line for every lock: removed, held by a process, or to be deleted by hand.
    """
    for lock in sorted([*directory.glob("*/lock"), *directory.glob("*/*/lock")]):
        try:
            yield _look_at(lock)
        except FileNotFoundError:  # the build has ended meanwhile
            continue
        except OSError as error:
            yield f"{lock}: {error.strerror}; delete it if nobody builds there, ranks that need it would wait for ever"


def _look_at(lock: Path) -> str:
    extension, holder, kind = lock.parent.name, _holder(lock), _file_system(lock)
    if holder is not None:
        return f"{lock}: process {holder} is building {extension}; ranks that need it wait for that"
    if kind in ONE_MACHINE and lock.stat().st_uid == os.geteuid():
        lock.unlink()
        return f"{lock}: removed; a build of {extension} was killed and left it, and ranks would wait for ever"
    whose = f"one on another machine may ({kind} is shared)" if kind not in ONE_MACHINE else "another user's may"
    return (
        f"{lock}: no process here holds it, but {whose}: delete it if none builds {extension}, "
        f"ranks that need it would wait for ever"
    )


def _holder(file: Path) -> int | None:
    """The id of a process that has a file open; None without one."""
    wanted = file.resolve()
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user, who does not build here
            if any(_opened(each) == wanted for each in Path(f"/proc/{process.pid}/fd").iterdir()):
                return process.pid
    return None


def _opened(descriptor: Path) -> Path | None:
    try:
        return descriptor.readlink()
    except OSError:  # closed meanwhile
        return None


def _file_system(file: Path) -> str:
    """The kind of file system that holds a file, as /proc/mounts calls it."""
    place = file.resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if place.is_relative_to(mount.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"
