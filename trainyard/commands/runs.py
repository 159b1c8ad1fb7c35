"""Reads the runs below a folder of outputs: lists, shows, compares, ranks and follows them. Writes to none of them."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xxhash

from trainyard.config.local import default_outputs
from trainyard.errors import DataError
from trainyard.runs import choice, numbers, settings, tables
from trainyard.runs.history import ACTIVE, DEAD, Run, find
from trainyard.runs.sync import MODES, sync
from trainyard.runs.watch import Watcher, watch

LONGEST_NAME = 100


def add_options(parser: argparse.ArgumentParser) -> None:
    every = argparse.ArgumentParser(add_help=False)
    folder = default_outputs()
    every.add_argument("--outputs", default=folder, help=f"the folder of all runs, paths.outputs (default: {folder})")
    every.add_argument("--stage", help="the runs of one stage only, as sft")
    measured = argparse.ArgumentParser(add_help=False)
    measured.add_argument("--metric", help="any number of metrics.jsonl (default: eval_loss, or else loss)")
    measured.add_argument("--maximize", action="store_true", help="more of the metric is better")
    machine = argparse.ArgumentParser(add_help=False)
    machine.add_argument("--json", action="store_true", help="one JSON object per run, on standard output")
    swept = argparse.ArgumentParser(add_help=False)
    swept.add_argument("--sweep", metavar="NAME", help="the points of a sweep")
    actions = parser.add_subparsers(dest="action", required=True)

    def action(name: str, summary: str, *options: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=summary, parents=[every, *options])

    action("list", "all runs, the newest first", measured, machine, swept)
    one = action("show", "settings, figures and checkpoints of a run", machine)
    one.add_argument("names", nargs="+", metavar="RUN", help="its name, as default or sft/default, or its directory")
    several = action("compare", "the settings in which runs differ, and their results, with charts", measured, swept)
    several.add_argument("names", nargs="*", metavar="RUN", help="two names or more, or none with --sweep")
    several.add_argument("--out", help="folder for the charts and the page (default: <outputs>/compare/<names>)")
    action("best", "the best run of each stage, and the command to train like it", measured, machine, swept)
    live = action("watch", "all runs, live in the terminal")
    live.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks (default 1)")
    live.add_argument("--once", action="store_true", help="one look, as lines of text")
    late = action("sync", "send to SwanLab what it missed of a run while the tracker was down")
    late.add_argument("names", nargs="+", metavar="RUN", help="as for show")
    late.add_argument("--mode", choices=MODES, help="where to (default: the run's tracking.mode)")


def run(arguments: argparse.Namespace) -> int:
    """
    Raises:
        DataError: a run, a sweep or a metric does not exist; the message lists those that do.
    """
    outputs = Path(arguments.outputs).expanduser()
    actions = {"list": _list, "show": _show, "compare": _compare, "best": _best, "watch": _watch, "sync": _sync}
    return actions[arguments.action](arguments, outputs)


def _list(arguments: argparse.Namespace, outputs: Path) -> int:
    runs = find(outputs, arguments.stage, arguments.sweep)
    if arguments.json:
        for each in runs:
            print(json.dumps(tables.described(each, arguments.metric, maximize=arguments.maximize)))
    elif runs:
        tables.screen().print(tables.listed(runs, arguments.metric, maximize=arguments.maximize))
    else:
        print(f"there are no runs in {outputs}; {choice.START}")
    return 0


def _show(arguments: argparse.Namespace, outputs: Path) -> int:
    screen = tables.screen()
    known = find(outputs, arguments.stage)
    for each in [choice.named(known, name) for name in arguments.names]:
        if arguments.json:
            changed = {name: setting.own for name, setting in settings.changed(each).items()}
            print(json.dumps({**tables.described(each), "status": _status(each), "settings": changed}))
            continue
        for part in tables.detailed(each):
            screen.print(part, soft_wrap=isinstance(part, str))
    return 0


def _status(run: Run) -> dict[str, Any]:
    """status.json as it is, other versions' keys included, but with the true state; empty without the file."""
    written = run.directory.read_status()
    return {**written, "state": run.status.state} if run.status.state in (*ACTIVE, DEAD) and written else written


def _compare(arguments: argparse.Namespace, outputs: Path) -> int:
    runs = _compared(arguments, outputs)
    # here, for matplotlib (of charts) and Jinja (of page) take their time
    from trainyard.runs import charts, page

    metric, maximize = choice.criterion(runs, arguments.metric, arguments.maximize)
    rows = tables.compared(runs, metric, maximize=maximize)
    screen = tables.screen()
    screen.print(tables.upright(rows))
    ranking = choice.ranked(runs, metric, maximize)
    note = choice.incomparable(runs)
    if note:
        screen.print(f"note: {note}", soft_wrap=True)
    pictures = {"curves": charts.curves(runs, metric, maximize=maximize)}
    if arguments.sweep and (swept := charts.over_settings(runs, metric, maximize=maximize)):
        pictures["settings"] = swept
    title = f"Sweep {arguments.sweep}" if arguments.sweep else "Comparison of " + ", ".join(each.name for each in runs)
    folder = Path(arguments.out).expanduser() if arguments.out else outputs / "compare" / _folder(arguments, runs)
    folder.mkdir(parents=True, exist_ok=True)
    html = folder / "index.html"
    best = ranking[0][0] if ranking else None
    html.write_text(page.page(title, runs, rows, pictures, best, [note] if note else []), encoding="utf-8")
    for file in [*charts.save(folder, pictures), html]:
        print(f"written: {file}")
    return 0


def _compared(arguments: argparse.Namespace, outputs: Path) -> list[Run]:
    """The runs to compare: in the order of the command line, or of their names for a sweep.

    Raises:
        DataError: fewer than two, or both names and a sweep.
    """
    if arguments.sweep and arguments.names:
        raise DataError("runs compare: takes the names of runs or --sweep, not both")
    if arguments.sweep:
        points = _of_one_sweep(choice.some(outputs, arguments.stage, arguments.sweep), arguments.sweep)
        runs = sorted(points, key=lambda run: [_natural(part) for part in re.split(r"([\d.eE+-]*\d)", run.name)])
    else:
        known = choice.some(outputs, arguments.stage)
        runs = list(dict.fromkeys(choice.named(known, name) for name in arguments.names))
    if len(runs) < 2:
        raise DataError(f"runs compare: takes two runs or more, or --sweep NAME; it got {len(runs)}")
    return runs


def _natural(part: str) -> tuple[bool, float, str]:
    """So that 3e-4 comes before 1e-3, and 8 before 16."""
    try:
        return False, float(part), ""
    except ValueError:
        return True, 0.0, part


def _of_one_sweep(points: Sequence[Run], sweep: str) -> Sequence[Run]:
    stages = sorted({point.stage for point in points})
    if len(stages) > 1:
        raise DataError(f"--sweep {sweep}: is one of {' and of '.join(stages)}; add --stage")
    return points


def _folder(arguments: argparse.Namespace, runs: Sequence[Run]) -> str:
    """Named by the sweep, or by the runs, short enough for a file system."""
    stage = f"{runs[0].stage}-" if arguments.sweep else ""
    names = f"{stage}{arguments.sweep}" if arguments.sweep else "+".join(each.name.replace("/", "-") for each in runs)
    digest = xxhash.xxh3_64_hexdigest(names.encode())[:6]
    return names if len(names.encode()) <= LONGEST_NAME else f"{names[: LONGEST_NAME // 4]}-{digest}"


def _best(arguments: argparse.Namespace, outputs: Path) -> int:
    runs = choice.some(outputs, arguments.stage, arguments.sweep)
    found = False
    for stage in sorted({each.stage for each in runs}):
        own = [each for each in runs if each.stage == stage]
        metric, maximize = choice.criterion(own, arguments.metric, arguments.maximize)
        ranking = choice.ranked(own, metric, maximize)
        if not ranking:
            print(f"{stage}: no run has measured {metric} yet", file=sys.stderr)
            continue
        found = True
        _tell_best(ranking, metric, len(own), as_json=arguments.json, maximize=maximize)
    if not found:
        raise DataError("no run has a value of what is asked for; runs show RUN lists a run's metrics")
    return 0


def _tell_best(ranking: Sequence[tuple[Run, float]], metric: str, total: int, *, as_json: bool, maximize: bool) -> None:
    best, value = ranking[0]
    command, secret = settings.again(best)
    if as_json:
        facts = tables.described(best, metric, maximize=maximize)
        print(json.dumps({**facts, "command": command, "ranked": len(ranking)}))
        return
    beside = f", {total - len(ranking)} others have not finished or have none" if total > len(ranking) else ""
    print(f"{best.name}: {metric} {numbers.figure(value)}, the best of {len(ranking)} ({best.state}){beside}")
    for other, figure in ranking[1:3]:
        print(f"  then {other.name}: {numbers.figure(figure)}")
    if note := choice.incomparable([run for run, _ in ranking]):
        print(f"  note: {note}")
    for key in secret:
        print(f"  {key} is secret and not stored; add it to the command")
    print(command)


def _watch(arguments: argparse.Namespace, outputs: Path) -> int:
    if not arguments.interval > 0:
        raise DataError(f"--interval {arguments.interval:g}: must be above 0 seconds")
    return watch(Watcher(outputs, arguments.stage), tables.screen(), interval_s=arguments.interval, once=arguments.once)


def _sync(arguments: argparse.Namespace, outputs: Path) -> int:
    known = choice.some(outputs, arguments.stage)
    return max([sync(choice.named(known, name), outputs, arguments.mode) for name in arguments.names])
