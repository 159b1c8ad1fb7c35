"""A stop, as one rank asks itself for it."""

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl

from trainyard.errors import StoppedError
from trainyard.training.callbacks.stop import StopCallback


class Asked(SimpleNamespace):
    """A rank that is asked to stop when `stop_signalled` names a signal."""

    def wants_to_stop(self) -> bool:
        return bool(self.stop_signalled)

    def note(self, **news: Any) -> None:
        self.noted.append(news)


def asked(signal: str = "") -> Any:
    return Asked(stop_signalled=signal, noted=[], step=None)


def test_a_step_without_a_request_goes_on(one_rank: None) -> None:
    rank, control = asked(), TrainerControl()
    state: Any = SimpleNamespace(global_step=3, max_steps=9)
    stop = StopCallback(rank)
    stop.on_train_begin(state, state, control)
    stop.on_step_end(state, state, control)
    assert (rank.step, stop.stopped, rank.noted) == (3, False, [])
    assert not control.should_save and not control.should_training_stop


@pytest.mark.parametrize("due", [True, False])
def test_a_request_saves_at_this_step_and_puts_the_evaluation_off(one_rank: None, due: bool) -> None:
    rank, control = asked("SIGTERM"), TrainerControl(should_evaluate=due)
    state: Any = SimpleNamespace(global_step=3, max_steps=9)
    stop = StopCallback(rank)
    stop.on_step_end(state, state, control)
    assert (stop.stopped, stop.evaluation_due) == (True, due)
    assert control.should_save and control.should_training_stop and not control.should_evaluate
    assert rank.noted == [{"now": True, "asked": "SIGTERM"}]


def test_the_last_step_ends_the_run_anyway(one_rank: None) -> None:
    control = TrainerControl(should_evaluate=True)
    state: Any = SimpleNamespace(global_step=9, max_steps=9)
    stop = StopCallback(asked("SIGTERM"))
    stop.on_step_end(state, state, control)
    assert not stop.stopped and control.should_evaluate


def test_a_request_before_the_first_step_leaves_at_once(one_rank: None) -> None:
    state: Any = SimpleNamespace(global_step=0, max_steps=9)
    with pytest.raises(StoppedError):
        StopCallback(asked("SIGINT")).on_train_begin(state, state, TrainerControl())
