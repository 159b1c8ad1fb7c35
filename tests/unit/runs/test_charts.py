"""What the charts of runs show: labels, legends, axes, the best value."""

from pathlib import Path

import pytest

from trainyard.runs import charts
from trainyard.runs.history import find
from unit.run_dirs import make_run, make_sweep


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[charts.Figure]:
    """The figures that are turned into pictures from now on."""
    figures: list[charts.Figure] = []
    save = charts._png

    def keep(picture: charts.Figure) -> bytes:
        figures.append(picture)
        return save(picture)

    monkeypatch.setattr(charts, "_png", keep)
    return figures


def test_charts_have_labels_a_legend_and_the_best_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch)
    make_sweep(tmp_path)
    runs = find(tmp_path, sweep="rates")
    assert charts.over_settings(runs, "eval_loss")
    assert charts.curves(runs, "eval_loss")
    over, curves = figures
    rate, size = sorted(over.axes, key=lambda axis: axis.get_xlabel(), reverse=True)
    assert (rate.get_xlabel(), rate.get_ylabel()) == ("trainer.learning_rate", "eval_loss")
    assert (rate.get_xscale(), size.get_xscale()) == (
        "linear",
        "linear",
    )  # 1e-2 has no loss, the rest is a factor of 10
    assert [text.get_text() for text in rate.get_xticklabels()] == ["0.0001", "0.0003", "0.001"]
    assert [text.get_text() for axis in over.axes for text in axis.texts] == ["best 2.8067"] * 2
    assert "2 of 8 runs have none" in over.get_suptitle()
    assert all(axis.get_legend() for axis in over.axes)
    steps, tokens = curves.axes
    assert (steps.get_xlabel(), tokens.get_xlabel(), steps.get_ylabel()) == ("optimizer step", "tokens", "loss")
    (legend,) = curves.legends
    assert {text.get_text() for text in legend.get_texts()} == {run.short for run in runs}
    star = next(line for line in tokens.lines if line.get_marker() == "*")
    assert list(star.get_xdata()) == [100 * 2048]
    looks = {(line.get_color(), line.get_linestyle()) for line in steps.lines if line.get_linewidth() > 1}
    assert len(looks) >= len(runs)  # no two alike


@pytest.mark.parametrize(
    ("rates", "scale"), [(("1e-4", "3e-3"), "linear"), (("1e-4", "4e-3"), "log"), (("0", "4"), "linear")]
)
def test_wide_ranges_are_drawn_over_their_logarithm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: tuple[str, str], scale: str
) -> None:
    figures = drawn(monkeypatch)
    for number, rate in enumerate(rates):
        make_run(tmp_path, f"sweeps/s/{number}", [f"trainer.learning_rate={rate}"], final=3 + number)
    assert charts.over_settings(find(tmp_path, sweep="s"), "eval_loss")
    assert figures[0].axes[0].get_xscale() == scale


def test_a_run_that_breaks_down_does_not_flatten_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch)
    make_run(tmp_path, "good")
    make_run(tmp_path, "broken", final=4000.0)
    make_run(tmp_path, "empty", steps=-1)
    assert charts.curves(find(tmp_path), "eval_loss")
    assert figures[0].axes[0].get_ylim()[1] < 20


@pytest.mark.parametrize("count", [40, 1])
def test_any_number_of_curves_has_a_look_of_its_own(count: int) -> None:
    looks = [charts._look(number, count) for number in range(count)]
    assert len({(str(look["color"]), look["linestyle"]) for look in looks}) == count
