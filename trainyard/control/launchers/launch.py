"""What a launch is, however its processes are started."""

from collections.abc import Sequence
from typing import Protocol


class Launch(Protocol):
    """The processes of one launch, as `Attempt` follows them."""

    @property
    def code(self) -> int | None:
        """The exit code; None while any process runs."""

    @property
    def failed(self) -> bool:
        """Has a node ended with an error while others may still run?"""

    @property
    def lost(self) -> Sequence[str]:
        """Nodes that are gone or cannot be reached."""

    def own_processes(self) -> list[int]:
        """Processes on this node that are not ranks. A stop signal to one of them is meant for the run."""

    def end(self) -> None:
        """Ends the processes that are left, and waits until they are gone. May be called again."""
