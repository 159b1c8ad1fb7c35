"""The count of early stopping over resumes; whole runs are in tests/faults/test_rotation.py."""

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import EarlyStoppingCallback, TrainerState
from transformers.trainer_callback import TrainerControl

from trainyard.training.callbacks.early_stopping import EarlyStopping

ARGS: Any = SimpleNamespace(
    load_best_model_at_end=True, metric_for_best_model="eval_loss", eval_strategy="steps", greater_is_better=False
)


def counted(kind: type[EarlyStoppingCallback], evaluations: int) -> TrainerState:
    """The state of a checkpoint after so many evaluations without a better one."""
    callback = kind(early_stopping_patience=5)
    state = TrainerState(best_metric=1.0, stateful_callbacks=[callback])  # type: ignore[list-item]
    for _ in range(evaluations):
        callback.on_evaluate(ARGS, state, TrainerControl(), {"eval_loss": 2.0})
    known: Any = state.stateful_callbacks
    known[kind.__name__] = callback.state()
    return state


@pytest.mark.parametrize("kind", [EarlyStopping, EarlyStoppingCallback])  # the latter is that of version 0.1
@pytest.mark.parametrize(("patience", "ended"), [(3, False), (2, True), (1, True)])
def test_the_count_goes_on_under_the_patience_of_the_command(
    kind: type[EarlyStoppingCallback], patience: int, ended: bool
) -> None:
    callback, control = EarlyStopping(patience), TrainerControl()
    callback.restore(counted(kind, 2))
    callback.on_train_begin(ARGS, TrainerState(), control)
    assert control.should_training_stop is ended, "decided before this start"
    callback.on_evaluate(ARGS, TrainerState(best_metric=1.0), control, {"eval_loss": 2.0})
    assert control.should_training_stop


def test_it_may_be_asked_for_by_the_command_that_resumes() -> None:
    """The library demands an entry for every callback of this kind at the next save."""
    state = TrainerState(stateful_callbacks={"TrainerControl": {}})  # type: ignore[arg-type]
    callback = EarlyStopping(3)
    callback.restore(state)
    assert callback.early_stopping_patience_counter == 0
    assert "EarlyStopping" in state.stateful_callbacks  # type: ignore[operator]
