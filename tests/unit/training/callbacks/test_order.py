"""The order of the callbacks, by what depends on it."""

from types import SimpleNamespace
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler, TrainerControl, TrainerState

from trainyard.training.callbacks.bad_steps import BadSteps
from trainyard.training.callbacks.order import Callbacks
from trainyard.training.callbacks.spikes import LossWindow, SpikeCallback

NAMES = [
    "speed",
    "stop",
    "bad_steps",
    "spikes",
    "resume",
    "early_stopping",
    "generations",
    "progress",
    "deepspeed_record",
    "tracker",
    "step_bounds",
]


class Named(TrainerCallback):
    """Notes at every event who was called."""

    def __init__(self, name: str, called: list[str]):
        self.name, self.called = name, called

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.called.append(self.name)


def handler(callbacks: list[TrainerCallback]) -> CallbackHandler:
    return CallbackHandler(callbacks, None, None, None, None)


def call(callbacks: list[TrainerCallback], event: str, **kwargs: Any) -> None:
    args: Any = SimpleNamespace()
    getattr(handler(callbacks), event)(args, TrainerState(global_step=3, max_steps=9), TrainerControl(), **kwargs)


def every(called: list[str], **others: Any) -> list[TrainerCallback]:
    own: dict[str, Any] = {name: Named(name, called) for name in NAMES} | others
    resume, step_bounds = own.pop("resume"), own.pop("step_bounds")
    own["early_stopping"] = [own["early_stopping"]]
    return Callbacks(**own).in_order(resume, step_bounds)


def test_the_library_calls_them_in_this_order() -> None:
    called: list[str] = []
    call(every(called), "on_step_end")
    assert called == NAMES


def test_rank_1_calls_its_own_in_the_same_order() -> None:
    called: list[str] = []
    call(every(called, progress=None, deepspeed_record=None, tracker=None), "on_step_end")
    assert called == [name for name in NAMES if name not in ("progress", "deepspeed_record", "tracker")]


def test_who_writes_a_line_of_metrics_sees_what_is_added_to_it() -> None:
    class Adds(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            kwargs["logs"]["tokens_seen"] = 7

    class Reads(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(dict(kwargs["logs"]))

    seen: list[dict[str, float]] = []
    bad_steps = BadSteps(*[SimpleNamespace(stopped=False)] * 3, limit=3)  # type: ignore[list-item]
    bad_steps.total = 2
    ordered = every([], speed=Adds(), bad_steps=bad_steps, progress=Reads(), tracker=Reads())
    args: Any = SimpleNamespace()
    handler(ordered).on_log(args, TrainerState(), TrainerControl(), {"loss": 1.0})
    assert seen == [{"loss": 1.0, "tokens_seen": 7, "bad_steps": 2}] * 2


def test_the_window_of_spikes_sees_the_judgement_of_this_very_step() -> None:
    """A bad step, then a good one: bad_steps has judged before spikes looks."""
    said: list[str] = []
    rank: Any = SimpleNamespace(say=said.append, run_dir=SimpleNamespace(skipped=SimpleNamespace()))
    judged: list[bool] = []

    class Judge(TrainerCallback):
        is_bad, loss = False, float("nan")

        def on_step_end(self, *_: Any, **__: Any) -> None:
            judged.append(self.is_bad)

    class Looks(SpikeCallback):
        def __init__(self) -> None:
            self.rank, self.bad_steps, self.window = rank, Judge(), LossWindow(10, 6)  # type: ignore[assignment]

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            assert judged
            super().on_step_end(*args, **kwargs)

    spikes = Looks()
    judge: Any = spikes.bad_steps
    for is_bad, loss in ((True, float("nan")), (False, 2.5)):
        judge.is_bad, judge.loss = is_bad, loss
        judged.clear()
        call(every([], bad_steps=judge, spikes=spikes), "on_step_end")
    assert spikes.window.losses == [2.5]


def test_a_save_that_was_put_off_waits_when_the_ranks_leave() -> None:
    """stop decides at this step, and bad_steps, which comes later, asks for its decision."""
    stop = SimpleNamespace(stopped=False)

    class Leaves(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            stop.stopped = True

    made_up: list[bool] = []

    class Judge(BadSteps):
        def _make_up(self, control: Any) -> None:
            made_up.append(True)

    judge = Judge(SimpleNamespace(), stop, SimpleNamespace(), limit=3)  # type: ignore[arg-type]
    call(every([], bad_steps=judge), "on_step_end")
    call(every([], bad_steps=judge, stop=Leaves()), "on_step_end")
    assert made_up == [True]
