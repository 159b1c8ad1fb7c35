import sys
import threading
from pathlib import Path

import pytest

from trainyard.checks.filled_in import FilledIn
from trainyard.config import local
from trainyard.config.schema import Config
from trainyard.control.controller import Checked
from trainyard.errors import ConfigError
from trainyard.machine.devices import CPU, Devices
from trainyard.rundir.directory import RunDir
from trainyard.sweeps import pool, sweep
from trainyard.sweeps.grid import Point, read
from trainyard.sweeps.sweep import Sweep

GPUS = Devices("cuda", 8, "H100", True, tuple(range(8)))


class Quiet:
    """Signals of which none has come, or `count`."""

    def __init__(self, count: int = 0):
        self.count, self.name = count, "SIGTERM" if count else None


def swept(tmp_path: Path, *overrides: str, stop: Quiet | None = None, devices: Devices = CPU) -> Sweep:
    arguments = [f"paths.outputs={tmp_path}", "sweep.name=x", *overrides]
    return Sweep("pretrain", read("pretrain", arguments), devices, stop or Quiet())  # type: ignore[arg-type]


def checked(*problems: str) -> Checked:
    """The outcome of the checks of any point."""
    return Checked(RunDir(Path("anywhere")), list(problems), [])


def test_a_task_of_an_array_minds_its_own_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live or wrong point of another task does not keep this task from its own point."""
    looked_at = []

    def check(config: Config, *_: object) -> Checked:
        looked_at.append(config.run.seed)
        return checked("enough")

    alive = RunDir(tmp_path / "pretrain" / "sweeps" / "x" / "seed=1")
    assert alive.acquire()
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setattr(sweep, "check", check)
    assert swept(tmp_path, "run.seed=1,2,3").run() == 2
    assert looked_at == [2]


def test_a_point_that_still_runs_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = RunDir(tmp_path / "pretrain" / "sweeps" / "x" / "seed=1")
    assert alive.acquire()
    assert swept(tmp_path, "run.seed=1,2", stop=Quiet(1)).run() == 75
    monkeypatch.setattr(sweep, "check", lambda *_: checked(alive.holder() or "free"))
    let_go = threading.Timer(0.5, alive.release)
    let_go.start()
    assert swept(tmp_path, "run.seed=1,2").run() == 2
    assert not let_go.is_alive()


def test_a_stop_that_comes_before_a_point_can_hear_it_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Quiet()

    class Signalled(pool.Pool):
        def start(self, point: Point) -> None:
            super().start(point)
            stop.count, stop.name = 1, "SIGTERM"

    monkeypatch.setattr(pool, "command", lambda *_: ["sleep", "60"])
    monkeypatch.setattr(sweep, "Pool", Signalled)
    monkeypatch.setattr(sweep, "check", lambda *_: checked())
    stopped = swept(tmp_path, "run.seed=1,2", stop=stop)
    assert stopped.run() == 75
    assert [stopped.results.state(point) for point in stopped.source.points] == ["preempted", "pending"]
    again = swept(tmp_path, "run.seed=1,2", stop=Quiet(1))
    again.source.begin(again._is_wanted)
    assert again.source.left() == 2


def test_a_search_that_is_stopped_before_its_end_is_not_finished(tmp_path: Path) -> None:
    assert swept(tmp_path, "run.seed=range(1,9)", "sweep.search=tpe", stop=Quiet(1)).run() == 75


def test_more_gpus_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"launch.num_devices=16: this machine has 8 GPUs"):
        swept(tmp_path, "run.seed=1,2", "launch.num_devices=16", devices=GPUS)


def test_all_mistakes_of_the_sweep_s_own_settings_are_reported_at_once(tmp_path: Path) -> None:
    wrong = ["launch.devices_per_job=3", "sweep.trials=0", "sweep.search=random"]
    with pytest.raises(ConfigError) as caught:
        swept(tmp_path, "run.seed=1,2", *wrong)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == wrong


def test_points_side_by_side_do_not_share_the_nodes_of_a_hostfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "local.yaml"
    file.write_text("launch: {hostfile: /etc/hostfile}")
    monkeypatch.setenv(local.VARIABLE, str(file))
    several = ["run.seed=1,2", "launch.devices_per_job=1"]
    for given, where in ([], f"/etc/hostfile ({file})"), (["launch.hostfile=hosts"], "hosts"):
        with pytest.raises(ConfigError) as caught:
            swept(tmp_path, *several, *given)
        assert caught.value.problems == [
            f"launch.hostfile={where}: points side by side share one machine; add launch.hostfile=null"
        ]
    assert len(swept(tmp_path, *several, "launch.hostfile=null").pool.slots) == 2
    assert len(swept(tmp_path, "run.seed=1,2").pool.slots) == 1


def test_what_is_filled_in_for_all_points_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [FilledIn("model", "llama_tiny", "why"), FilledIn("trainer.bf16", True, "why")]

    def check(config: Config, *_: object) -> Checked:
        own = FilledIn("trainer.gradient_accumulation_steps", config.run.seed, "why")
        return Checked(RunDir(Path("anywhere")), [], [values[0], own, values[1]])

    monkeypatch.setattr(sweep, "check", check)
    monkeypatch.setattr(sweep, "is_finished", lambda *_: False)
    started = swept(tmp_path, "run.seed=1,2")
    started._begin(started.source.points)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "filled in: model=llama_tiny   (why)",
        "filled in: trainer.bf16=true  (why)",
    ]


WORK = """
import json, pathlib, sys
folder, loss, code = pathlib.Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
folder.mkdir(parents=True)
(folder / "status.json").write_text(json.dumps({"state": "failed" if code else "finished", "step": 1}))
(folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "eval_loss": loss}))
print("why it failed" if code else "done")
sys.exit(code)
"""


def test_a_sweep_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = {"seed=1": (3.0, 0), "seed=2": (2.0, 0), "seed=3": (1.0, 1)}
    folder = tmp_path / "pretrain" / "sweeps" / "x"

    def command(_: str, __: str, point: Point, ___: int) -> list[str]:
        loss, code = outcomes[point.name]
        return [sys.executable, "-c", WORK, str(folder / point.name), str(loss), str(code)]

    monkeypatch.setattr(pool, "command", command)
    monkeypatch.setattr(sweep, "check", lambda *_: checked())
    monkeypatch.setattr(sweep, "is_finished", lambda _, run: (run.path / "status.json").is_file())
    settings = ["run.seed=1,2,3", "launch.devices_per_job=1"]
    assert swept(tmp_path, *settings).run() == 1
    said = capsys.readouterr()
    assert "sweep x: 3 points to do, 2 at a time" in said.out
    assert "seed=2: finished, eval_loss 2.0000" in said.out and "best so far: seed=2, eval_loss 2.0000" in said.out
    assert "seed=3: failed: why it failed (logs/seed=3.log)" in said.err and "1 of 3 points failed: seed=3" in said.err
    assert (folder / "results.csv").read_text().splitlines()[1].startswith("seed=1,1,finished,3.0,3.0,")
    assert swept(tmp_path, *settings).run() == 1
    assert "sweep x: 0 points to do" in capsys.readouterr().out
    again = swept(tmp_path, *settings, "sweep.retry_failed=true")
    again.source.begin(again._is_wanted)
    assert [point.name for point in again.source._todo] == ["seed=3"]  # type: ignore[attr-defined]
