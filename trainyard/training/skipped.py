"""skipped.json of a run: the stretches of the data that the run leaves out after spikes of its loss."""

from collections.abc import Sequence
from typing import Any

from trainyard.data.sequences.order import Stretches, merged
from trainyard.errors import FinalError
from trainyard.files import read_json, write_json
from trainyard.rundir.directory import RunDir

MAX_ROLLBACKS = 10
"""The most rollbacks of one run; if so many did not help, the data is not the cause."""

Record = dict[str, Any]


def read(run: RunDir) -> list[Record]:
    """One entry for each rollback, oldest first.

    `first_sample` and `last_sample` are global positions, both left out; `step`, `loss`, `mean` and `deviation`
    describe the spike.

    Raises:
        FinalError: the file is damaged.
    """
    record = read_json(run.skipped)
    if not record and run.skipped.exists():
        way_on = "Put back a copy, or start over with run.resume=never: without it other data would be trained on"
        raise FinalError(f"{run.skipped}: damaged. {way_on}")
    return list(record.get("stretches", []))


def add(run: RunDir, record: Record) -> None:
    """Appends an entry; for rank 0 alone."""
    write_json(run.skipped, {"stretches": [*read(run), record]})


def stretches(run: RunDir, inherited: Sequence[Sequence[int]] = ()) -> Stretches:
    """All stretches [first, stop) that the run leaves out, merged and ascending.

    Args:
        inherited: the stretches of the run from whose checkpoint this one began.
    """
    own = [(record["first_sample"], record["last_sample"] + 1) for record in read(run)]
    return merged([*own, *inherited])
