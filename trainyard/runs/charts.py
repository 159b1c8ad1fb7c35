"""Charts of runs as PNG files: curves over steps and tokens, and outcomes over swept settings, with matplotlib."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainyard.runs.history import Run, is_number
from trainyard.runs.numbers import figure
from trainyard.runs.settings import shown, swept

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The colours of Okabe and Ito, which colour-blind people can tell apart; without yellow, which is faint on white."""

STYLES = ("-", "--", ":", "-.")

WIDE_RANGE = 30
"""Values that span more than this factor get a logarithmic axis."""

MOST_POINTS = 2000
"""Most points of one curve."""

DPI = 130


def curves(runs: Sequence[Run], metric: str, *, maximize: bool = False) -> bytes:
    """A PNG of a metric over steps and over tokens, with a line for each run and a star at the best value.

    Where the metric is the held-out loss, thin lines show the training loss. Where a loss diverges, the picture ends a
    little above the losses at the start.
    """
    labels = _labels(runs)
    columns = max(1, min(3, 150 // max(map(len, labels))))
    picture = Figure(figsize=(12, 5.2 + 0.2 * math.ceil(len(runs) / columns)), layout="constrained")
    steps, tokens = picture.subplots(1, 2, sharey=True)
    for axis, over in ((steps, "step"), (tokens, "tokens")):
        _draw(axis, runs, over, metric, maximize)
        _finish(axis)
    steps.set(xlabel="optimizer step", ylabel="loss" if metric == "eval_loss" else metric)
    steps.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    tokens.set_xlabel("tokens")
    tokens.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    _keep_diverged_outside(steps, runs, metric)
    picture.suptitle(f"{metric}{' (thin: the training loss)' if metric == 'eval_loss' else ''}", fontsize=12)
    lines = [line for line in steps.lines if line.get_gid() == "curve"]
    picture.legend(lines, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return _png(picture)


def _draw(axis: Axes, runs: Sequence[Run], over: str, metric: str, maximize: bool) -> None:
    """Draws the curves, that of the best run over the others."""
    best = _best(runs, metric, maximize)
    for number, run in enumerate(runs):
        look = _look(number, len(runs))
        if metric == "eval_loss":
            axis.plot(*_points(run, over, "loss"), color=look["color"], linewidth=0.8, alpha=0.35)
        x, y = _points(run, over, metric)
        look["linewidth"] = 2.8 - 1.4 * number / len(runs)  # so that each of several equal curves is seen
        if run is best and x:
            look |= {"linewidth": 2.6, "zorder": 4}
            at = (max if maximize else min)(range(len(y)), key=y.__getitem__)
            _mark_best(axis, x[at], y[at])
        axis.plot(x, y, **look, marker="o" if len(x) <= 30 else None, markersize=3.5, gid="curve")


def over_settings(runs: Sequence[Run], metric: str, *, maximize: bool = False) -> bytes | None:
    """A PNG with a panel per swept setting, a dot per run at its outcome; None when nothing is swept or measured."""
    settings = swept(runs)
    outcomes = [run.outcome(metric) for run in runs]
    known = [number for number, outcome in enumerate(outcomes) if outcome is not None and math.isfinite(outcome)]
    if not settings or not known:
        return None
    columns = min(3, len(settings))
    lines = math.ceil(len(settings) / columns)
    picture = Figure(figsize=(max(6.0, 4.6 * columns), 3.9 * lines + 0.4), layout="constrained")
    panels = list(picture.subplots(lines, columns, squeeze=False, sharey=True).flat)
    y = [outcomes[number] or 0.0 for number in known]
    for axis, (name, values) in zip(panels, settings.items(), strict=False):
        _panel(axis, [values[number] for number in known], y, maximize)
        axis.set_xlabel(name)
        axis.set_ylabel(metric)
        _finish(axis)
    for axis in panels[len(settings) :]:
        axis.remove()
    left_out = len(runs) - len(known)
    beside = f"; {left_out} of {len(runs)} runs have none" if left_out else ""
    picture.suptitle(f"{metric} at the end of each run, over what was swept{beside}", fontsize=12)
    return _png(picture)


def _panel(axis: Axes, values: list[Any], y: list[float], maximize: bool) -> None:
    """Draws a dot for each run, and a line through the best run of each value."""
    choose = max if maximize else min
    if all(map(is_number, values)):
        x = [float(value) for value in values]
        ticks = sorted(set(x))
        if ticks[0] > 0 and ticks[-1] / ticks[0] > WIDE_RANGE:
            axis.set_xscale("log")
        if len(ticks) <= 8:
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], rotation=30 if len(ticks) > 4 else 0)
            axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    else:
        names = list(dict.fromkeys(shown(value, 24) for value in values))
        x = [float(names.index(shown(value, 24))) for value in values]
        ticks = sorted(set(x))
        axis.set_xticks(range(len(names)), names, rotation=30 if len(names) > 3 else 0)
    line = [choose(value for at, value in zip(x, y, strict=True) if at == tick) for tick in ticks]
    joined: dict[str, Any] = (
        {"linestyle": "-"} if all(map(is_number, values)) else {"linestyle": "", "marker": "_", "markersize": 22}
    )
    axis.plot(ticks, line, color=COLOURS[1], linewidth=1.2, **joined, label="best of a value")  # names have no order
    axis.margins(x=0.15)
    axis.scatter(x, y, color=COLOURS[0], s=28, zorder=3, label="a run")
    at = y.index(choose(y))
    _mark_best(axis, x[at], y[at])
    axis.legend(fontsize=8, frameon=False)


def _points(run: Run, over: str, metric: str) -> tuple[list[float], list[float]]:
    """The x and y values of a curve: its finite points, thinned out to about MOST_POINTS, the last one kept."""
    pairs = [(each.tokens if over == "tokens" else each.step, each.value) for each in run.values(metric)]
    stride = math.ceil(len(pairs) / MOST_POINTS) or 1
    pairs = [*pairs[::stride], *(pairs[-1:] if (len(pairs) - 1) % stride else [])]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _look(number: int, count: int) -> dict[str, Any]:
    """Colour and dashes of a curve. Where there are more curves than combinations, all get shades of one scale."""
    if count > len(COLOURS) * len(STYLES):
        return {"color": matplotlib.colormaps["viridis"](0.95 * number / (count - 1)), "linestyle": "-"}
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number // len(COLOURS)]}


def _labels(runs: Sequence[Run]) -> list[str]:
    """The names of the runs; points of one sweep go by their own part of the name."""
    of_one_sweep = len({run.path.parent for run in runs}) == 1 and runs[0].sweep
    names = [run.short if of_one_sweep else run.name for run in runs]
    return [name if len(name) <= 70 else f"{name[:69]}…" for name in names]


def _best(runs: Sequence[Run], metric: str, maximize: bool) -> Run | None:
    """The run with the best value at any step."""
    valued = [(best.value, number) for number, run in enumerate(runs) if (best := run.best(metric, maximize=maximize))]
    return runs[(max if maximize else min)(valued)[1]] if valued else None


def _mark_best(axis: Axes, x: float, y: float) -> None:
    axis.plot([x], [y], marker="*", markersize=15, color="#F0E442", markeredgecolor="black", linestyle="", zorder=5)
    axis.annotate(f"best {figure(y)}", (x, y), (0, -16), textcoords="offset points", ha="center", fontsize=8)
    axis.margins(y=0.12)


def _keep_diverged_outside(axis: Axes, runs: Sequence[Run], metric: str) -> None:
    """Ends the axis a little above the losses at the start, so that an exploding loss does not flatten the others."""
    curves = [_points(run, "step", name) for run in runs for name in {metric, "loss"}]
    curves = [(x, y) for x, y in curves if x]
    if not metric.endswith("loss") or not curves:
        return
    first = min(x[0] for x, _ in curves)
    start = max(y[0] for x, y in curves if x[0] == first)
    low, top = min(min(y) for _, y in curves), max(max(y) for _, y in curves)
    if top > 1.5 * start:
        axis.set_ylim(low - 0.1 * (start - low), start + 0.1 * (start - low))
        axis.text(0.99, 0.985, "losses above are cut off", transform=axis.transAxes, ha="right", va="top", fontsize=8)


def _finish(axis: Axes) -> None:
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _png(picture: Figure) -> bytes:
    stream = io.BytesIO()
    picture.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()


def save(folder: Path, pictures: dict[str, bytes]) -> list[Path]:
    """Writes each picture to `<folder>/<name>.png`; the paths in the same order."""
    files = []
    for name, content in pictures.items():
        files.append(folder / f"{name}.png")
        files[-1].write_bytes(content)
    return files
