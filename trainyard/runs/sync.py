"""What a run's tracker did not take while it went on, sent to SwanLab from the run directory."""

import sys
from pathlib import Path

from trainyard.config.saved import load
from trainyard.errors import FAILED, FINISHED, DataError
from trainyard.rundir.metrics import read_metrics
from trainyard.runs.history import Run

MODES = ("local", "cloud", "offline")


def sync(run: Run, outputs: Path, mode: str | None) -> int:
    """Creates the run's experiment, or continues it, in a mode of SwanLab; None: that of the run.

    Raises:
        DataError: the run goes on, or has measured nothing.
    """
    from trainyard.tracking.swanlab import FOLDER, SwanLabRun, complaint

    directory = run.directory
    if holder := directory.holder():
        raise DataError(f"{run.name}: is alive, {holder}, and sends by itself what it measures; sync it afterwards")
    rows = read_metrics(directory.metrics)
    if not rows:
        raise DataError(f"{run.name}: there is nothing to send, {directory.metrics} has no line")
    config = load(directory.config)
    own = config.tracking.mode
    config.tracking.mode = mode or (own if own in MODES else "local")
    experiment = SwanLabRun(config, directory, outputs / FOLDER)
    try:
        experiment.open(rows, read_metrics(directory.samples))
        experiment.close()
    except Exception as error:  # anything: it is SwanLab's
        print(f"error: {run.name}: SwanLab could not take it: {complaint(error)}", file=sys.stderr)
        return FAILED
    print(f"{run.name}: {len(rows):,} lines sent, {config.tracking.mode}")
    return FINISHED
