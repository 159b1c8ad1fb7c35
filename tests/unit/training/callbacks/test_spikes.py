"""Spikes of the loss, found alike in an undisturbed and in a resumed run."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard.training.callbacks.spikes import LossWindow, Usual

LOSSES = st.lists(st.floats(0, 100), max_size=80)


def spikes(window: LossWindow, losses: list[float]) -> list[int]:
    return [number for number, loss in enumerate(losses) if window.add(loss) is not None]


def test_a_spike_lies_far_above_the_window_and_leaves_it_as_it_is() -> None:
    window = LossWindow(size=10, deviations=3)
    usual = [2.0, 4.0, 2.0, 4.0, 2.0, 4.0]  # mean 3, deviation 1
    assert spikes(window, usual) == []
    assert window.add(6.01) == Usual(3.0, 1.0)
    assert window.add(100.0) == Usual(3.0, 1.0)
    assert window.losses == usual
    assert window.add(6.0) is None  # not above three deviations
    assert window.losses == [*usual, 6.0]


def test_nothing_is_a_spike_before_the_window_is_half_full() -> None:
    assert spikes(LossWindow(size=10, deviations=3), [1, 1.1, 1, 1.1, 1000]) == []
    assert spikes(LossWindow(size=10, deviations=3), [1, 1.1, 1, 1.1, 1, 1000]) == [5]


def test_a_low_loss_is_no_spike_and_old_losses_are_forgotten() -> None:
    window = LossWindow(size=10, deviations=3)
    falling = [10 * 0.8**step for step in range(40)]
    assert spikes(window, falling) == []
    assert window.losses == falling[-10:]
    assert spikes(window, [5.0]) == [0]  # the level of the beginning


def test_a_lasting_rise_becomes_the_new_level() -> None:
    """Half a window of spikes in a row, then no more."""
    window = LossWindow(size=10, deviations=3)
    spikes(window, [1.0, 1.1] * 5)
    assert spikes(window, [2.0, 2.1] * 10) == [0, 1, 2, 3, 4]
    assert spikes(window, [3.0]) == [0]


@settings(max_examples=200, deadline=None)
@given(before=LOSSES, after=LOSSES, size=st.integers(10, 20), deviations=st.floats(0.5, 6))
def test_a_window_from_a_checkpoint_goes_on_as_if_uninterrupted(
    before: list[float], after: list[float], size: int, deviations: float
) -> None:
    window = LossWindow(size, deviations)
    spikes(window, before)
    assert len(window.losses) <= size and len(window.outside) < size // 2
    restored = LossWindow(**json.loads(json.dumps(asdict(window))))
    assert spikes(restored, after) == spikes(window, after)
    assert asdict(restored) == asdict(window)


@pytest.mark.parametrize("level", [1e-3, 2.5, 1e3])
def test_six_deviations_pass_over_ordinary_noise(level: float) -> None:
    import random

    draw = random.Random(1)
    losses = [draw.gauss(level, level / 50) for _ in range(5000)]
    assert spikes(LossWindow(size=100, deviations=6), losses) == []
    assert spikes(LossWindow(size=100, deviations=6), [*losses[:500], level * 1.3]) == [500]
