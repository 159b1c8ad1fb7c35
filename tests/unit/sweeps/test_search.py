import math
from dataclasses import replace
from typing import Any

import pytest

from trainyard.errors import ConfigError
from trainyard.sweeps.grid import read
from trainyard.sweeps.results import Row
from trainyard.sweeps.search import Search


def search(*overrides: str, earlier: list[Row] | None = None) -> Search:
    lr = "trainer.learning_rate=tag(log, interval(1e-5, 1e-1))"
    return Search(read("pretrain", ["sweep.search=tpe", lr, "model.hidden_size=64,128", *overrides]), earlier or [])


def test_a_search_learns_and_goes_on_where_it_was() -> None:
    found = search("sweep.trials=30")
    losses: dict[str, float] = {}
    rows = []
    while point := found.next():
        rate = float(point.settings["trainer.learning_rate"])
        assert 1e-5 <= rate <= 1e-1 and point.settings["model.hidden_size"] in ("64", "128")
        losses[point.name] = abs(rate - 3e-3) / 3e-3 + (point.settings["model.hidden_size"] == "64")
        found.tell(point, losses[point.name])
        rows.append(Row(point=point.name, settings=point.settings, state="finished", metric=losses[point.name]))
    assert len(rows) == 30
    assert min(list(losses.values())[15:]) < 0.5
    again = search("sweep.trials=30", earlier=rows)
    assert again.next() is None and [point.name for point in again.points] == list(losses)
    half = [*rows[:10], replace(rows[10], state="preempted")]
    later = search("sweep.trials=30", earlier=half)
    assert (again.left(), later.left()) == (0, 20)
    first = later.next()
    assert first is not None and first.name == rows[10].point  # what was interrupted comes first
    count = 1
    later.tell(first, 1.0)
    while point := later.next():
        later.tell(point, 1.0)
        count += 1
    assert count == 20


def test_failed_points_are_tried_again_when_asked() -> None:
    lr = {"trainer.learning_rate": "0.001", "model.hidden_size": "64"}
    earlier = [Row(point="learning_rate=0.001,hidden_size=64", settings=lr, state="failed")]
    assert search("sweep.trials=1", earlier=earlier).next() is None
    again = search("sweep.trials=1", "sweep.retry_failed=true", earlier=earlier).next()
    assert again is not None and again.settings == lr


def test_a_point_falls_behind_the_median_of_those_before() -> None:
    found = search("sweep.trials=9")
    for _ in range(5):
        point = found.next()
        assert point is not None
        assert not found.falls_behind(point, {0: 9.0, 10: 5.0})
        found.tell(point, 5.0)
    good, bad = found.next(), found.next()
    assert good is not None and bad is not None
    assert not found.falls_behind(good, {0: 9.0, 10: 4.0})
    assert found.falls_behind(bad, {0: 9.0, 10: 6.0})
    found.tell(bad, None, gave_up=True)
    never = search("sweep.trials=9", "sweep.prune=false")
    for value in range(6):
        point = never.next()
        assert point is not None
        assert not never.falls_behind(point, {10: float(value)})
        never.tell(point, float(value))


def row(rate: str, size: str, state: str = "finished", metric: float | None = 1.0, **more: Any) -> Row:
    settings = {"trainer.learning_rate": rate, "model.hidden_size": size}
    name = f"learning_rate={rate},hidden_size={size}"
    return Row(point=name, settings=settings, state=state, metric=metric, **more)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_metric_that_is_no_number_teaches_nothing(value: float | None) -> None:
    found = search("sweep.trials=2")
    first = found.next()
    assert first is not None
    found.tell(first, value)
    assert found.left() == 1
    assert search("sweep.trials=2", earlier=[row("0.001", "64", metric=value)]).left() == 1


def test_points_of_another_search_are_left_alone() -> None:
    others = [row("0.001", "256"), row("5", "64"), Row(point="seed=1", settings={"run.seed": "1"}, state="failed")]
    found = search("sweep.trials=2", earlier=[*others, row("0.001", "64")])
    assert (found.left(), [point.name for point in found.points]) == (1, ["learning_rate=0.001,hidden_size=64"])


@pytest.mark.parametrize("interval", ["tag(log,interval(0,1))", "interval(1e-2,1e-4)"])
def test_an_interval_that_is_none(interval: str) -> None:
    with pytest.raises(ConfigError, match=r"^trainer.weight_decay: "):
        Search(read("pretrain", ["sweep.search=tpe", f"trainer.weight_decay={interval}"]), [])


def test_whole_numbers_for_settings_that_take_no_others() -> None:
    found = Search(read("pretrain", ["sweep.search=tpe", "trainer.max_steps=interval(10,100)", "sweep.trials=5"]), [])
    while point := found.next():
        assert 10 <= int(point.settings["trainer.max_steps"]) <= 100
    assert [each.settings["trainer.max_steps"] for each in found.examples()] == ["10", "100"]


def test_every_choice_is_checked_beforehand() -> None:
    found = search("model.hidden_size=32,33,64").examples()
    assert {point.settings["model.hidden_size"] for point in found} == {"32", "33", "64"}


def test_no_point_is_run_twice_and_a_search_without_others_ends() -> None:
    found = Search(read("pretrain", ["sweep.search=tpe", "model.hidden_size=64,128", "sweep.trials=6"]), [])
    names = []
    while point := found.next():  # the first still runs while the others are asked for
        names.append(point.name)
        if len(names) > 1:
            found.tell(point, 1.0)
    assert sorted(names) == ["hidden_size=128", "hidden_size=64"]
    assert found.left() == 0 and found.next() is None


def test_points_of_an_earlier_command_are_what_others_fall_behind() -> None:
    curve = {step: 9.0 - step for step in range(5)}
    found = search("sweep.trials=9", earlier=[row(f"0.00{n}", "64", metric=5.0, curve=curve) for n in range(1, 6)])
    good, bad = found.next(), found.next()
    assert good is not None and bad is not None
    assert not found.falls_behind(good, {step: 8.0 - step for step in range(5)})
    assert found.falls_behind(bad, dict.fromkeys(range(5), 9.5))
