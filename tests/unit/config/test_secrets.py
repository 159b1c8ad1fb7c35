"""What no file may hold is still the same setting in the next command."""

from pathlib import Path

from trainyard.checks import resume
from trainyard.checks.resolve import resolve
from trainyard.config import saved
from trainyard.config.compose import compose
from trainyard.machine.devices import CPU


def test_a_secret_that_was_not_written_down_is_no_drift(tmp_path: Path) -> None:
    overrides = [f"paths.outputs={tmp_path}", "data.template_variables.api_key=sk-1"]
    now = compose("pretrain", overrides)
    resolve(now, overrides, CPU, {})
    saved.save(now, tmp_path / "config.yaml")
    before = saved.load(tmp_path / "config.yaml")
    assert before.data.template_variables == {"api_key": "***"}
    assert resume.drift(before, now) == []
