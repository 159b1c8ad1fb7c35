"""The commit of the code that runs."""

import subprocess

from trainyard import ROOT


def commit() -> str | None:
    """The hash of the checkout's commit, with `+changes` where tracked files differ; None without a checkout."""
    if not (ROOT / ".git").exists():
        return None
    described = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]  # no tags: the hash itself
    command = ["git", "-C", str(ROOT), *described]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
