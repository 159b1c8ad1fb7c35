"""The commit of the code that runs."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def commit() -> str | None:
    """The hash of the checkout's commit, with `+changes` where tracked files differ; None without a checkout."""
    if not (ROOT / ".git").exists():
        return None
    head = _git("rev-parse", "HEAD")
    return head and head + "+changes" * bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
