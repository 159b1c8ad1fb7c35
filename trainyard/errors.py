"""Every exception and exit code of ours, and the hint at a name that was meant.

This module imports nothing of ours, so that commands that answer at once can use it.
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

FINISHED, FAILED, WRONG, STOPPED = 0, 1, 2, 75
"""Exit codes of a run: it finished; it failed; the request is wrong and nothing was started; it was stopped by a signal
and has a full checkpoint, so the same command resumes it."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str, *, cutoff: float = 0.6) -> str:
    """`Did you mean X?` for the known name that is nearest to one; without a similar name `otherwise`.

    Args:
        cutoff: how similar a name must be, from 0 to 1.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"Did you mean {near[0]}?" if near else otherwise


class RequestError(ValueError):
    """A request that cannot be met. `problems` holds every mistake, each with the value, the rule and the fix."""

    def __init__(self, problems: Sequence[str]):
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class ConfigError(RequestError):
    """Settings that are wrong.

    Attributes:
        partial: the config without the overrides that are wrong, for the rest to be checked; None without one.
    """

    def __init__(self, problems: Sequence[str], partial: Any = None):
        super().__init__(problems)
        self.partial = partial


class DataError(RequestError):
    """Input that is bad, each problem with its file and line; or a model, a tokenizer or a run that is not there."""

    def __init__(self, *problems: str):
        super().__init__(problems)


class ConversationError(ValueError):
    """A row of the data that does not describe a conversation, or a chat template that cannot render one."""


class BackendMismatchError(RuntimeError):
    """The fast tokenizer backend gave other ids than the reference, so nothing that it encoded may be used."""


class FinalError(Exception):
    """A failure that every further start would meet again, so the controller does not restart the ranks."""


class RollbackError(Exception):
    """Not a failure: all ranks leave together, and the run goes on from its newest checkpoint with other data."""


class StoppedError(Exception):
    """All ranks leave together because the run is to stop, at a point where there is nothing to save."""


class Ended(Exception):  # noqa: N818  an outcome, not an error
    """The run has its exit code.

    Attributes:
        code: FINISHED, FAILED, WRONG or STOPPED.
        message: shown as the last words; empty when everything is said already.
    """

    def __init__(self, code: int, message: str = ""):
        super().__init__(message)
        self.code, self.message = code, message
