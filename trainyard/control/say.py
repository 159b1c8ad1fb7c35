"""How the controller speaks to the terminal."""

import contextlib
import sys
from collections.abc import Sequence

from trainyard.errors import WRONG


def say(text: str, *, wrong: bool = False) -> None:
    """Prints at once, to standard error if something is wrong. A reader that is gone, as `| head`, does no harm."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr if wrong else sys.stdout, flush=True)


def refuse(problems: Sequence[str]) -> int:
    """Names every mistake of a request; the exit code."""
    for problem in problems:
        say(f"error: {problem}", wrong=True)
    return WRONG
