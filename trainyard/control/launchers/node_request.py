"""What the controller tells a node of a hostfile about a launch: one line of JSON through ssh's standard input."""

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class NodeRequest:
    """One node's part of a launch. The config itself is read from the run's directory, which the nodes share."""

    environment: dict[str, str]
    """The controller's, without the variables of its machine. Secrets are sent here, so they are in no command line."""
    directory: str
    """The working directory of the ranks."""
    run: str
    """The run's directory."""
    checkpoint: str | None
    """The checkpoint that the ranks load; None when they begin from the model."""
    master_addr: str
    master_port: int
    node_rank: int

    def line(self) -> bytes:
        """The request as it is sent."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, line: str | bytes) -> "NodeRequest":
        """The request that `line()` wrote."""
        return cls(**json.loads(line))
