"""Functions at moments of a training."""

from transformers import TrainerCallback

from trainyard.training.callbacks.moments import Moments


def test_each_function_is_called_at_its_moment_and_others_may_lack() -> None:
    called: list[str] = []
    begin = Moments(train_begin=lambda: called.append("train begins"), step_end=lambda: called.append("step ends"))
    step = Moments(step_begin=lambda: called.append("step begins"))
    for event in ("on_train_begin", "on_step_begin", "on_step_end", "on_train_end"):
        for callback in (begin, step):
            getattr(callback, event)(None, None, None, model=None)
    assert called == ["train begins", "step begins", "step ends"]
    assert isinstance(begin, TrainerCallback)
