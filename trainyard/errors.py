"""What the exit codes mean; see trainyard.commands.train. Imports nothing, for commands that answer at once."""

from collections.abc import Sequence
from typing import Any

FINISHED, FAILED, WRONG, STOPPED = 0, 1, 2, 75


class FinalError(Exception):
    """A failure that another start would meet again."""


class RollbackError(Exception):
    """No failure: all ranks leave together, so that the run goes on from its newest checkpoint in another way."""


class ConfigError(ValueError):
    """What is wrong with a request, every mistake in `problems`, each with the value, the rule and the fix."""

    def __init__(self, problems: Sequence[str], partial: Any = None):
        """`partial` is the config without the overrides that are wrong, for more to be checked."""
        super().__init__("\n".join(problems))
        self.problems, self.partial = list(problems), partial


class StoppedError(Exception):
    """All ranks leave together, where there is nothing to save."""


class DataError(ValueError):
    """Bad input, every problem in `problems`, each with its file and line."""

    def __init__(self, *problems: str):
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class ConversationError(ValueError):
    """A row that is no conversation."""


class BackendMismatchError(RuntimeError):
    """The fast backend gave other ids than the reference: what it encoded so far must not be used."""
