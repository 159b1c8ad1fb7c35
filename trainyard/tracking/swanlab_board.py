"""Keeps SwanLab's local dashboard in order, which SwanLab itself does not do.

Replaced experiments are removed, experiments get different names and colours, and charts are drawn in sections. A
failure here only leaves the dashboard less tidy.

This relies on swanlab 0.10 with swanboard 0.1.10b2: every start is a directory `run-<time>-<id>` of the log directory.
In local mode it is also a row of the table `experiment` in `<log directory>/runs.swanlab`, whose run_id is the name of
the directory; rows that refer to a deleted row are deleted with it. The database is in WAL mode, so a dashboard can
read all the time. A dashboard lists sections, the table `namespace`, in the order in which they were made, without the
empty ones. swanlab.deprecated.local draws every chart in the section that its _ColumnInfo names.
"""

import colorsys
import random
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from itertools import count
from pathlib import Path
from typing import ParamSpec

from trainyard import compat

DATABASE = "runs.swanlab"

PATIENCE_S = 30.0
"""Seconds to wait for other writers of the database."""

P = ParamSpec("P")


@contextmanager
def _database(log_dir: Path) -> Iterator[sqlite3.Connection]:
    address = f"{(log_dir / DATABASE).absolute().as_uri()}?mode=rw"  # only SwanLab itself makes the database
    with closing(sqlite3.connect(address, uri=True, timeout=PATIENCE_S)) as database, database:
        database.execute("PRAGMA foreign_keys = ON")
        yield database


def _softly(action: Callable[P, None]) -> Callable[P, None]:
    @wraps(action)
    def attempt(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            action(*args, **kwargs)
        except Exception as error:
            print(f"the local dashboard, {action.__name__}: {type(error).__name__}: {error}")  # into rank 0's log

    return attempt


def _experiments(log_dir: Path) -> dict[str, tuple[str, str]]:
    """Name and colour of every experiment, by the name of its directory; empty where there is no dashboard."""
    try:
        with _database(log_dir) as database:
            return {
                run: (name, color)
                for run, name, color in database.execute("SELECT run_id, name, light FROM experiment")
            }
    except sqlite3.Error:
        return {}


def starts(log_dir: Path, identity: str) -> list[Path]:
    """The directories of all starts of a run, including starts that ended before the dashboard showed them."""
    return list(log_dir.glob(f"run-*-{identity}"))


def not_shown(log_dir: Path, of: Iterable[Path]) -> list[Path]:
    """The directories of starts that the dashboard does not show."""
    known = _experiments(log_dir)
    return [each for each in of if each.name not in known]


def free_name(log_dir: Path, wanted: str) -> str:
    """The wanted name, with a number when an experiment has it already: `default`, `default (2)`."""
    taken = [name for name, _ in _experiments(log_dir).values()]
    return next(name for number in count(1) if (name := wanted if number == 1 else f"{wanted} ({number})") not in taken)


def free_color(log_dir: Path) -> str:
    """A colour as `#52cc8f`, far from the colours of other experiments. Runs that begin together differ by chance."""
    used = [_hue(color) for _, color in _experiments(log_dir).values() if re.fullmatch("#[0-9a-fA-F]{6}", color or "")]
    drawn = [random.SystemRandom().random() for _ in range(32)]
    hue = max(drawn, key=lambda one: min((abs((one - other + 0.5) % 1 - 0.5) for other in used), default=0.0))
    return "#" + "".join(f"{int(255 * each):02x}" for each in colorsys.hsv_to_rgb(hue, 0.6, 0.8))


def _hue(color: str) -> float:
    red, green, blue = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return colorsys.rgb_to_hsv(red, green, blue)[0]


@_softly
def retire(log_dir: Path, old: Iterable[Path]) -> None:
    """Takes experiments out of the dashboard, and deletes their directories.

    Called before the experiment that takes their place is opened: SwanLab adds nothing to a shared chart whose
    experiments are all gone, so such charts are deleted too.
    """
    if (log_dir / DATABASE).exists():
        with _database(log_dir) as database:
            for each in old:
                charts = database.execute(_CHARTS, [each.name]).fetchall()
                database.execute("DELETE FROM experiment WHERE run_id = ?", [each.name])
                empty = "DELETE FROM chart WHERE id = ? AND id NOT IN (SELECT chart_id FROM source)"
                database.executemany(empty, charts)
    for each in old:
        shutil.rmtree(each, ignore_errors=True)


_CHARTS = """
SELECT DISTINCT source.chart_id FROM source
JOIN tag ON tag.id = source.tag_id JOIN experiment ON experiment.id = tag.experiment_id
WHERE experiment.run_id = ?
"""


@_softly
def name(experiment: Path, name: str) -> None:
    """Gives the experiment of a directory its name; SwanLab renames one of two that begin at the same moment."""
    with _database(experiment.parent) as database:
        database.execute("UPDATE OR IGNORE experiment SET name = ? WHERE run_id = ?", [name, experiment.name])


@_softly
def draw_in_sections() -> None:
    """Draws `train/loss` in the section train, and so on, in experiments that are opened from now on."""
    compat.draw_charts_in_sections()


@_softly
def order_sections(experiment: Path, names: Iterable[str]) -> None:
    """Fixes the order of the sections of a new experiment, and of the page that shows all experiments together."""
    with _database(experiment.parent) as database:
        ((number, project),) = database.execute(
            "SELECT id, project_id FROM experiment WHERE run_id = ?", [experiment.name]
        )
        for place, name in enumerate(names):
            database.execute(_SECTION, [name, number, None, place])
            database.execute(_SECTION, [name, None, project, place])


_SECTION = """
INSERT OR IGNORE INTO namespace (name, experiment_id, project_id, sort, opened, create_time, update_time)
VALUES (?, ?, ?, ?, 1, datetime('now'), datetime('now'))
"""
