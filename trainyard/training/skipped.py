"""The stretches of the data that a run leaves out after spikes of its loss: skipped.json in its directory."""

from collections.abc import Sequence
from typing import Any

from trainyard.data.sequences.order import Stretches, merged
from trainyard.files import read_json, write_json
from trainyard.rundir.directory import RunDir

MAX_ROLLBACKS = 10
"""In one run; where so many did not help, the data is not the cause."""


Record = dict[str, Any]


def read(run: RunDir) -> list[Record]:
    """One entry for each rollback: first_sample and last_sample of the stretch as global positions, both left out, and
    the step, loss, mean and deviation of the spike."""
    return list(read_json(run.skipped).get("stretches", []))


def add(run: RunDir, record: Record) -> None:
    write_json(run.skipped, {"stretches": [*read(run), record]})


def stretches(run: RunDir, inherited: Sequence[Sequence[int]] = ()) -> Stretches:
    """All that the run leaves out, with what the run left out whose checkpoint it began from."""
    own = [(record["first_sample"], record["last_sample"] + 1) for record in read(run)]
    return merged([*own, *inherited])
