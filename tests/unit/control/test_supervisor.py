"""What the supervisor writes to status.json."""

import copy
import shlex
from datetime import datetime
from pathlib import Path

from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.control.supervisor import Supervisor
from trainyard.errors import STOPPED
from trainyard.machine.devices import CPU
from trainyard.machine.signals import StopSignals
from trainyard.rundir.directory import RunDir


def test_the_supervisor_keeps_command_seconds_and_time(tmp_path: Path, corpus: Path) -> None:
    overrides = [f"paths.outputs={tmp_path}", "run.name=r", f"data.sources=[{{path: '{corpus}', format: jsonl}}]"]
    config = compose("pretrain", overrides)
    resolve(config, overrides, CPU, {})
    run = RunDir(tmp_path / "pretrain" / "r")
    run.path.mkdir(parents=True)
    run.write_status({"seconds": 1000.0})  # of earlier starts
    stop = StopSignals()
    stop.count, stop.name = 1, "SIGTERM"  # before its preparation has begun
    assert Supervisor(copy.deepcopy(config), [*overrides, "++tracking.api_key=abc"], CPU, run, stop).run() == STOPPED
    status = run.read_status()
    assert 1000.0 < status["seconds"] < 1500.0
    assert datetime.fromisoformat(status["updated"]).tzinfo is not None
    assert shlex.split(status["command"]) == ["bash", "launch/pretrain.sh", *overrides, "++tracking.api_key=***"]
    assert "abc" not in run.status.read_text()
    seconds = status["seconds"]
    Supervisor(config, overrides, CPU, run, stop).run()
    assert run.read_status()["seconds"] >= seconds
