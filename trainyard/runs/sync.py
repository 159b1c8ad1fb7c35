"""Sends the metrics of a run directory to SwanLab afterwards, for a tracker that failed while the run went on."""

import sys
from pathlib import Path

from trainyard.config.saved import load
from trainyard.errors import FAILED, FINISHED, DataError
from trainyard.rundir.metrics import History, read_metrics
from trainyard.runs.history import Run

MODES = ("local", "cloud", "offline")
"""The modes of SwanLab that store something."""


def sync(run: Run, outputs: Path, mode: str | None) -> int:
    """Creates the run's experiment, or continues it, and returns the exit code.

    Args:
        outputs: the folder of all runs, in which SwanLab keeps its files.
        mode: one of MODES; None: the run's own mode, or `local` if that mode stores nothing.

    Raises:
        DataError: the run is alive, or has measured nothing.
    """
    from trainyard.tracking.swanlab import DRAWN, FOLDER, SwanLabRun
    from trainyard.tracking.tracker import complaint

    directory = run.directory
    if holder := directory.holder():
        raise DataError(f"{run.name}: is alive, {holder}, and sends by itself what it measures; sync it afterwards")
    history = History(directory.metrics)
    count = sum(1 for _ in history)
    if not count:
        raise DataError(f"{run.name}: there is nothing to send, {directory.metrics} has no line")
    config = load(directory.config)
    own = config.tracking.mode
    config.tracking.mode = mode or (own if own in MODES else "local")
    experiment = SwanLabRun(config, directory, outputs / FOLDER)
    try:
        drawn = history.thinned(DRAWN) if config.tracking.mode == "local" else history
        experiment.open(drawn, read_metrics(directory.samples))
        experiment.close()
    except Exception as error:  # SwanLab may raise anything
        print(f"error: {run.name}: SwanLab could not take it: {complaint(error)}", file=sys.stderr)
        return FAILED
    print(f"{run.name}: {count:,} lines sent, {config.tracking.mode}")
    return FINISHED
