"""Numbers as a person reads them."""

import pytest

from trainyard.runs.numbers import clock, count, figure, progress


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.9, "1:01"), (3599, "59:59"), (3600, "1:00:00")])
def test_seconds_are_shown_as_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, "0.0000"), (3.214, "3.2140"), (-0.5, "-0.5000"), (1e-4, "0.0001"), (12345.6, "1.235e+04")],
)
def test_figures_keep_four_digits(value: float | None, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("number", "text"), [(None, ""), (999, "999"), (204_800, "205k"), (1.234e6, "1.23M"), (2e9, "2B"), (3e12, "3T")]
)
def test_counts_get_a_unit(number: float | None, text: str) -> None:
    assert count(number) == text


def test_progress_is_shown_as_far_as_it_is_known() -> None:
    assert [progress(None, 10), progress(1200, 4000), progress(1200, None)] == ["", "1,200 of 4,000", "1,200"]
