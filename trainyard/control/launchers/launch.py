"""What a launch is, however its processes are started."""

from collections.abc import Sequence
from typing import Protocol


class Launch(Protocol):
    """The processes of one launch, as `Attempt` follows them."""

    @property
    def code(self) -> int | None:
        """The exit code; None while anything runs."""

    @property
    def failed(self) -> bool:
        """Has a node ended with an error while others may still run?"""

    @property
    def lost(self) -> Sequence[str]:
        """Nodes that are gone, or whose connection is."""

    def own_processes(self) -> list[int]:
        """Processes on this node that are not ranks. A stop signal that was sent to one is meant for the run."""

    def end(self) -> None:
        """Ends whatever is left of the launch, and waits for it. May be called again."""
