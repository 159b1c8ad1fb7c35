"""What no file may hold is still the same setting in the next command."""

from pathlib import Path

from trainyard import resume, runconfig
from trainyard.config import compose
from trainyard.devices import CPU
from trainyard.resolve import resolve


def test_a_secret_that_was_not_written_down_is_no_drift(tmp_path: Path) -> None:
    overrides = [f"paths.outputs={tmp_path}", "data.template_variables.api_key=sk-1"]
    now = compose("pretrain", overrides)
    resolve(now, overrides, CPU, {})
    runconfig.save(now, tmp_path / "config.yaml")
    before = runconfig.load(tmp_path / "config.yaml")
    assert before.data.template_variables == {"api_key": "***"}
    assert resume.drift(before, now) == []
