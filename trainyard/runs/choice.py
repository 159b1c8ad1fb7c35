"""Which runs are meant, and which of them is best."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from trainyard.config.stages import STAGES
from trainyard.errors import DataError
from trainyard.files import read_json
from trainyard.runs.history import Run, find, is_run

START = f"start one with: {' '.join(next(iter(STAGES.values())).words)}"


def some(outputs: Path, stage: str | None, sweep: str | None = None) -> list[Run]:
    """The runs that there are.

    Raises:
        DataError: there are none.
    """
    runs = find(outputs, stage, sweep)
    if runs:
        return runs
    if sweep is None:
        raise DataError(f"{outputs / (stage or '')}: there are no runs; {START}, or name another folder with --outputs")
    sweeps = sorted({run.sweep for run in find(outputs, stage) if run.sweep})
    raise DataError(f"--sweep {sweep}: there is no such sweep in {outputs}.{_nearest(sweep, sweeps)}")


def named(runs: Sequence[Run], wanted: str) -> Run:
    """The run of a name, of the end of a name, or in a directory.

    Raises:
        DataError: none or several are meant.
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
    """` Did you mean X?`, where the whole name or its last part is near; else the newest names."""
    deepest_first = sorted(names, key=lambda name: -name.count("/"))
    spellings = {spelling: name for name in deepest_first for spelling in (name.rpartition("/")[2], name)}
    if near := difflib.get_close_matches(wanted, spellings, n=1):
        return f" Did you mean {spellings[near[0]]}?"
    if not names:
        return f" There is none; {START}"
    return f" There {'are' if len(names) > 1 else 'is'}: {', '.join(names[:5])}"


def criterion(runs: Sequence[Run], metric: str | None, maximize: bool) -> tuple[str, bool]:
    """By what to compare runs, and whether more of it is better: as given, as their sweep has it, or by loss.

    Without either it is the held-out loss, unless only the training loss is there.
    """
    if metric is not None:
        return metric, maximize
    if runs and runs[0].sweep and len({run.path.parent for run in runs}) == 1:
        results = read_json(runs[0].path.parent / "results.json")
        if isinstance(results.get("metric"), str):
            return results["metric"], maximize or bool(results.get("maximize"))
    metrics = [run.metric() for run in runs]
    return ("eval_loss" if "eval_loss" in metrics else "loss"), maximize


def ranked(runs: Sequence[Run], metric: str, maximize: bool) -> list[tuple[Run, float]]:
    """Runs with what came of them by a metric, the best first; those without one, or with NaN, are left out.

    Once one has finished, only finished ones count.
    """
    finished = [run for run in runs if run.state == "finished"]
    valued = [(run, run.outcome(metric)) for run in finished or runs]
    known = [(run, value) for run, value in valued if value is not None and abs(value) < float("inf")]
    return sorted(known, key=lambda pair: pair[1], reverse=maximize)


def incomparable(runs: Sequence[Run]) -> str | None:
    """Why the losses of runs are not the same measure: they are of other text, or in other tokens."""
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
