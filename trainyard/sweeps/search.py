"""Points that Optuna chooses, each by what has come of those before, instead of every combination."""

from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from trainyard.config import Axis, Interval, key_of
from trainyard.sweeps import grid
from trainyard.sweeps.grid import Point, Request
from trainyard.sweeps.results import Row

PATIENCE = 4
"""Points that are finished before one can fall behind."""


class Search:
    """The tree-structured Parzen estimator (Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization).

    A point falls behind, and is given up, when its best metric at a step is worse than the median of those before.
    """

    def __init__(self, request: Request, earlier: list[Row]):
        """`earlier`: what an earlier command of this sweep has left, from which it goes on."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        settings, seed = request.config.sweep, request.config.run.seed
        self.request, self.trials = request, settings.trials
        self.points: list[Point] = []
        self._space = {key: _distribution(axis) for key, axis in request.swept.items()}
        self._asked: dict[str, optuna.Trial] = {}
        self._reported: dict[str, set[int]] = {}
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
        """The corners of what is searched."""
        ends = {key: _ends(axis) for key, axis in self.request.swept.items()}
        return [grid.point(self.request, {key: pair[end] for key, pair in ends.items()}) for end in (0, 1)]

    def begin(self, wanted: Callable[[Point], bool]) -> int:
        """The number of points to come; what an earlier command has seen end is known already."""
        return max(0, self.trials - len(self._study.trials)) + self._waiting()

    def next(self) -> Point | None:
        """Another point to run; None when there are enough."""
        if not self._waiting() and len(self._study.trials) >= self.trials:
            return None
        trial = self._study.ask(self._space)
        point = self._point(trial.params)
        if point not in self.points:
            self.points.append(point)
        self._asked[point.name] = trial
        return point

    def tell(self, point: Point, value: float | None, *, gave_up: bool = False) -> None:
        """How a point has ended; None: without a metric."""
        if (trial := self._asked.pop(point.name, None)) is not None:
            state = TrialState.PRUNED if gave_up else TrialState.COMPLETE if value is not None else TrialState.FAIL
            self._study.tell(trial, value if state == TrialState.COMPLETE else None, state)

    def falls_behind(self, point: Point, curve: dict[int, float]) -> bool:
        """Is a running point, by its metric at each step, not worth its end?"""
        trial = self._asked.get(point.name)
        if trial is None:
            return False
        for step in curve.keys() - self._reported.setdefault(point.name, set()):
            trial.report(curve[step], step)
        self._reported[point.name].update(curve)
        return bool(curve) and trial.should_prune()

    def _remember(self, row: Row, *, retry: bool) -> None:
        """Counts a point that has ended; one that has not, or failed and is to be tried again, comes first."""
        params = {key: _value(self._space[key], row[key_of(key)]) for key in self._space}
        point = self._point(params)
        self.points.append(point)
        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        state = None if row["state"] == "failed" and retry else states.get(row["state"])
        if state is None:
            self._study.enqueue_trial(params)
        else:
            value = row["metric"] if state == TrialState.COMPLETE else None
            self._study.add_trial(create_trial(state=state, value=value, params=params, distributions=self._space))

    def _waiting(self) -> int:
        """Points of an earlier command that come first."""
        return len(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _point(self, params: dict[str, Any]) -> Point:
        return grid.point(self.request, {key: _text(value) for key, value in params.items()})


def _distribution(axis: Axis) -> BaseDistribution:
    if not isinstance(axis, Interval):
        return CategoricalDistribution(axis)
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _ends(axis: Axis) -> tuple[str, str]:
    if isinstance(axis, Interval):
        low, high = (int(axis.low), int(axis.high)) if axis.whole else (axis.low, axis.high)
        return _text(low), _text(high)
    return axis[0], axis[-1]


def _value(distribution: BaseDistribution, text: str) -> Any:
    """The value that a setting's text stands for, within its bounds: rounding may have left them."""
    if isinstance(distribution, CategoricalDistribution):
        return text
    number: Any = int(text) if isinstance(distribution, IntDistribution) else float(text)
    bounds: Any = distribution
    return min(max(number, bounds.low), bounds.high)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
