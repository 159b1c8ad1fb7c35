"""The peak of a device by its name, and what a line of metrics has."""

from types import SimpleNamespace
from typing import Any

import pytest
from transformers.trainer_callback import TrainerControl

from trainyard.training.callbacks import speed
from trainyard.training.callbacks.speed import PEAK_FLOPS, SpeedCallback, device_peak


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
    ],
)
def test_the_longest_entry_within_a_name_counts(name: str, entry: str) -> None:
    assert device_peak(name) == PEAK_FLOPS[entry]


def test_an_unknown_device_has_no_peak() -> None:
    assert device_peak("Radeon") is None


def callback(monkeypatch: pytest.MonkeyPatch) -> SpeedCallback:
    samples: Any = SimpleNamespace(
        tokens_per_step=64, tokens_seen=lambda step: 1000 + 64 * step, epochs=lambda step: 0.25 * step
    )
    monkeypatch.setattr(speed, "of_all_ranks", lambda own, device: {"memory_gib": [1.0, 2.0]})
    return SpeedCallback(samples, flops_per_token=1.0, world_size=2)


def test_a_line_has_no_speed_of_the_library_which_starts_anew_at_every_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    """With include_num_input_tokens_seen the library adds the keys of its closing summary to every line."""
    logs: dict[str, Any] = {"loss": 2.0, "num_input_tokens_seen": 5, "train_runtime": 1.0, "eval_runtime": 1.0}
    logs |= {"train_tokens_per_second": 9.0}
    state: Any = SimpleNamespace(global_step=3, epoch=None)
    callback(monkeypatch).on_log(SimpleNamespace(device=None), state, None, logs=logs, train_dataloader=None)  # type: ignore[arg-type]
    assert logs.keys() == {
        "loss", "num_input_tokens_seen", "tokens_seen", "tokens_per_second", "data_wait", "ranks", "memory_gib",
    }  # fmt: skip
    assert (logs["tokens_seen"], logs["memory_gib"]) == (1000 + 192, 2.0)


@pytest.mark.parametrize(("step", "logged"), [(4, False), (5, True)])
def test_the_last_step_has_a_line_with_the_loss_however_seldom_lines_are(
    monkeypatch: pytest.MonkeyPatch, step: int, logged: bool
) -> None:
    state: Any = SimpleNamespace(global_step=step, max_steps=5, epoch=None)
    control = TrainerControl()
    callback(monkeypatch).on_step_end(None, state, control)  # type: ignore[arg-type]
    assert control.should_log is logged and state.epoch == 0.25 * step
