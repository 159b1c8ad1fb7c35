"""The points of a search: Optuna chooses each from the results of those before, instead of every combination."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from trainyard.config.axes import Axis, Interval
from trainyard.config.overrides import key_of
from trainyard.errors import ConfigError
from trainyard.sweeps import grid
from trainyard.sweeps.grid import Point, SweepRequest
from trainyard.sweeps.results import PointState, Row

PATIENCE = 4
"""Points that are chosen at random first, and that must be finished before a point can fall behind."""

REPEATS = 50
"""The search is exhausted after so many proposals in a row that only repeat existing points."""


class Search:
    """The tree-structured Parzen estimator (Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization).

    A point falls behind, and is given up, when its best metric up to a step is worse than the median of the earlier
    points at that step.
    """

    def __init__(self, request: SweepRequest, earlier: list[Row]):
        """
        Args:
            earlier: the points of earlier commands of this sweep, from which the search goes on; see Results.measured.

        Raises:
            ConfigError: with every interval that is empty, or has a logarithm below zero.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        settings, seed = request.config.sweep, request.config.run.seed
        self.request, self.trials = request, settings.trials
        self.points: list[Point] = []
        self._space = _space(request.swept)
        self._asked: dict[str, optuna.Trial] = {}
        self._reported: dict[str, set[int]] = {}
        self._ended: dict[str, float | None] = {}
        self._exhausted = False
        self._study = optuna.create_study(
            direction="maximize" if settings.maximize else "minimize",
            sampler=optuna.samplers.TPESampler(seed=seed + len(earlier), n_startup_trials=PATIENCE, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(PATIENCE, n_warmup_steps=1)
            if settings.prune
            else optuna.pruners.NopPruner(),
        )
        for row in earlier:
            self._remember(row, retry=settings.retry_failed)

    def examples(self) -> list[Point]:
        """Points to check before the first is started: together they have every choice and both ends of intervals."""
        values = {key: _ends(axis) if isinstance(axis, Interval) else axis for key, axis in self.request.swept.items()}
        count = max(map(len, values.values()))
        return [
            grid.point(self.request, {key: each[number % len(each)] for key, each in values.items()})
            for number in range(count)
        ]

    def begin(self, wanted: Callable[[Point], bool]) -> None:
        """Does nothing: the constructor has learned which points have ended."""

    def left(self) -> int:
        """Number of points that are still to be started."""
        fresh = 0 if self._exhausted else max(0, self.trials - len(self.points))
        return fresh + self._waiting()

    def next(self) -> Point | None:
        """The next point to start; None after `trials` points, and when no other point is proposed."""
        if not self.left():
            return None
        for _ in range(REPEATS):
            trial = self._study.ask(self._space)
            point = self._point(trial.params)
            if point.name not in self._asked and point.name not in self._ended:
                if point not in self.points:
                    self.points.append(point)
                self._asked[point.name] = trial
                return point
            self._tell(trial, self._ended.get(point.name))
        self._exhausted = True
        return None

    def tell(self, point: Point, value: float | None, *, gave_up: bool = False) -> None:
        """Learns from the end of a point. `value` is its metric; None if the run left no metric."""
        if (trial := self._asked.pop(point.name, None)) is not None:
            self._ended[point.name] = value
            self._tell(trial, value, gave_up=gave_up)

    def _tell(self, trial: optuna.Trial, value: float | None, *, gave_up: bool = False) -> None:
        if gave_up:
            self._study.tell(trial, state=TrialState.PRUNED)
        elif (value := _finite(value)) is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, value)

    def falls_behind(self, point: Point, curve: dict[int, float]) -> bool:
        """Should a running point be given up, by its metric at each step so far?"""
        trial = self._asked.get(point.name)
        if trial is None:
            return False
        for step in curve.keys() - self._reported.setdefault(point.name, set()):
            trial.report(curve[step], step)
        self._reported[point.name].update(curve)
        return bool(curve) and trial.should_prune()

    def _remember(self, row: Row, *, retry: bool) -> None:
        """Adds a point of an earlier command. A point that has not ended, or is to be tried again, is proposed first.

        A row of other settings, or with values outside of this search, is ignored.
        """
        try:
            params = {key: _value(self._space[key], row.settings[key_of(key)]) for key in self._space}
        except (KeyError, ValueError):
            return
        point = self._point(params)
        if point.name != row.point:
            return
        self.points.append(point)
        value = _finite(row.metric)
        finished = TrialState.FAIL if value is None else TrialState.COMPLETE
        states = {
            PointState.FINISHED: finished,
            PointState.PRUNED: TrialState.PRUNED,
            PointState.FAILED: TrialState.FAIL,
        }
        state = None if row.state == PointState.FAILED and retry else states.get(row.state)
        if state is None:
            self._study.enqueue_trial(params)
            return
        self._ended[point.name] = value = value if state == TrialState.COMPLETE else None
        trial = create_trial(
            state=state, value=value, params=params, distributions=self._space, intermediate_values=row.curve
        )
        self._study.add_trial(trial)

    def _waiting(self) -> int:
        """Number of points of earlier commands that are proposed first."""
        return len(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _point(self, params: dict[str, Any]) -> Point:
        return grid.point(self.request, {key: _text(value) for key, value in params.items()})


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _space(swept: Mapping[str, Axis]) -> dict[str, BaseDistribution]:
    space, problems = {}, []
    for key, axis in swept.items():
        try:
            space[key] = _distribution(axis)
        except ValueError as error:
            problems.append(f"{key}: {error}")
    if problems:
        raise ConfigError(problems)
    return space


def _distribution(axis: Axis) -> BaseDistribution:
    if not isinstance(axis, Interval):
        return CategoricalDistribution(axis)
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _ends(axis: Interval) -> list[str]:
    return [_text(int(end) if axis.whole else end) for end in (axis.low, axis.high)]


def _value(distribution: BaseDistribution, text: str) -> Any:
    """The value behind a setting's text. A number that rounding moved out of its bounds is moved back.

    Raises:
        ValueError: the text is no choice, or no number.
    """
    if isinstance(distribution, CategoricalDistribution):
        if text not in distribution.choices:
            raise ValueError(text)
        return text
    number: Any = int(text) if isinstance(distribution, IntDistribution) else float(text)
    bounds: Any = distribution
    return min(max(number, bounds.low), bounds.high)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
