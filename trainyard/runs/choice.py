"""The runs that a command line means, the metric that compares them, and their ranking."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trainyard.config.stages import STAGES
from trainyard.errors import DataError
from trainyard.files import read_json
from trainyard.rundir.status import State
from trainyard.runs.history import Run, find, is_run

START = f"start one with: {' '.join(next(iter(STAGES.values())).words)}"


class Criterion(NamedTuple):
    """The metric that compares runs, and whether a higher value is better."""

    metric: str
    maximize: bool


class Ranked(NamedTuple):
    """A run and its outcome."""

    run: Run
    value: float


def some(outputs: Path, stage: str | None, sweep: str | None = None) -> list[Run]:
    """The runs under a folder of outputs, newest first; at least one.

    Raises:
        DataError: there is no run; the message names the nearest sweep, or a command that starts a run.
    """
    runs = find(outputs, stage, sweep)
    if runs:
        return runs
    if sweep is None:
        raise DataError(f"{outputs / (stage or '')}: there are no runs; {START}, or name another folder with --outputs")
    sweeps = sorted({run.sweep for run in find(outputs, stage) if run.sweep})
    raise DataError(f"--sweep {sweep}: there is no such sweep in {outputs}.{_nearest(sweep, sweeps)}")


def named(runs: Sequence[Run], wanted: str) -> Run:
    """The run with a name, with a name that ends so, or in a directory.

    Of several runs whose names end so, one that lies less deep is meant: `a` is pretrain/a, not pretrain/sweeps/s/a.

    Raises:
        DataError: no run is meant, or several are.
    """
    ending = [run for run in runs if f"/{run.name}".endswith(f"/{wanted.strip('/')}")]
    shallowest = min((run.name.count("/") for run in ending), default=0)
    meant = [run for run in ending if run.name.count("/") == shallowest]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise DataError(f"{wanted}: is one of {', '.join(sorted(run.name for run in meant))}; say which")
    folder = Path(wanted).expanduser()
    if is_run(folder):
        path = folder.absolute()
        known = (run.name for run in runs if run.path.absolute() == path)
        return Run(path, next(known, f"{path.parent.name}/{path.name}"))
    raise DataError(f"{wanted}: there is no such run.{_nearest(wanted, [run.name for run in runs])}")


def _nearest(wanted: str, names: Sequence[str]) -> str:
    """` Did you mean X?` where a whole name or its last part is similar; else the first five names."""
    deepest_first = sorted(names, key=lambda name: -name.count("/"))
    spellings = {spelling: name for name in deepest_first for spelling in (name.rpartition("/")[2], name)}
    if near := difflib.get_close_matches(wanted, spellings, n=1):
        return f" Did you mean {spellings[near[0]]}?"
    if not names:
        return f" There is none; {START}"
    return f" There {'are' if len(names) > 1 else 'is'}: {', '.join(names[:5])}"


def criterion(runs: Sequence[Run], metric: str | None, maximize: bool) -> Criterion:
    """The metric to compare runs by: the given one, else that of their sweep, else a loss.

    The loss is the held-out one, or the training loss where no run has measured the other.
    """
    if metric is not None:
        return Criterion(metric, maximize)
    if runs and runs[0].sweep and len({run.path.parent for run in runs}) == 1:
        results = read_json(runs[0].path.parent / "results.json")
        if isinstance(results.get("metric"), str):
            return Criterion(results["metric"], maximize or bool(results.get("maximize")))
    metrics = [run.metric() for run in runs]
    return Criterion("eval_loss" if "eval_loss" in metrics else "loss", maximize)


def ranked(runs: Sequence[Run], metric: str, maximize: bool) -> list[Ranked]:
    """Runs with their outcomes, the best first. Runs without a finite outcome are left out.

    As soon as one run has finished, only finished runs count.
    """
    finished = [run for run in runs if run.state == State.FINISHED]
    valued = [(run, run.outcome(metric)) for run in finished or runs]
    known = [Ranked(run, value) for run, value in valued if value is not None and abs(value) < float("inf")]
    return sorted(known, key=lambda each: each.value, reverse=maximize)


def incomparable(runs: Sequence[Run]) -> str | None:
    """Why the losses of the runs cannot be compared: other text, other tokens, other context. None if they can."""
    measured = {
        "data.prepared": "the text or its tokens",
        "data.eval_fraction": "the held-out share",
        "data.block_size": "the context",
    }
    differing = [what for name, what in measured.items() if len({str(run.settings.get(name)) for run in runs}) > 1]
    if not differing:
        return None
    verb = "differs" if len(differing) == 1 else "differ"
    return f"{' and '.join(differing)} {verb} between these runs; mind that when losses are compared"
