import csv
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from trainyard.config.compose import compose
from trainyard.config.schema import Config
from trainyard.errors import ConfigError
from trainyard.machine.devices import CPU, Devices
from trainyard.rundir.directory import RunDir, run_path
from trainyard.sweeps import pool, sweep
from trainyard.sweeps.grid import Grid, Point, read
from trainyard.sweeps.results import Results
from trainyard.sweeps.sweep import Sweep


def points(*overrides: str, stage: str = "pretrain") -> list[Point]:
    return Grid(read(stage, overrides)).points


def test_every_combination_with_the_last_changing_fastest() -> None:
    found = points("trainer.learning_rate=1e-4,1e-3", "model.hidden_size=64,128", "trainer.max_steps=7")
    assert [point.name for point in found] == [
        "learning_rate=0.0001,hidden_size=64",
        "learning_rate=0.0001,hidden_size=128",
        "learning_rate=0.001,hidden_size=64",
        "learning_rate=0.001,hidden_size=128",
    ]
    assert found[1].settings == {"trainer.learning_rate": "0.0001", "model.hidden_size": "128"}
    assert found[1].overrides == ("trainer.max_steps=7", "trainer.learning_rate=0.0001", "model.hidden_size=128")


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("model.hidden_size=range(64,256,64)", ["64", "128", "192"]),
        ("deepspeed=choice(zero2,zero3)", ["zero2", "zero3"]),
        ("experiment=glob(qwen3*)", ["qwen3_1_7b_continue", "qwen3_1_7b_scratch"]),
        ("experiment=glob(*,exclude=[sft*,qwen2*,llama*])", ["qwen3_1_7b_continue", "qwen3_1_7b_scratch"]),
        ("++model.config.rope_theta=1e4,1e6", ["10000.0", "1000000.0"]),
    ],
)
def test_hydras_grammar(override: str, values: list[str]) -> None:
    found = points(override)
    assert [list(point.settings.values()) for point in found] == [[value] for value in values]
    assert not any(key.startswith("+") for point in found for key in point.settings)


def test_names_tell_strange_values_apart_and_are_fit_for_files() -> None:
    sources = ["[{path: 'a b.txt', format: text}]", "[{path: 'a\tb.txt', format: text}]", "[{path: /x/, format: text}]"]
    found = points(f"data.sources={','.join(sources)}", "data.eval_fraction=0.1,0.2")
    assert len({point.name for point in found}) == len(found) == 6
    for point in found:
        assert "/" not in point.name and len(point.name) < 140 and " " not in point.name
        config = compose("pretrain", pool.command("pretrain", "mine", point)[3:])
        assert (config.run.name, config.run.sweep) == (point.name, "mine")
        assert run_path(config).parts[-3:] == ("sweeps", "mine", point.name)


def test_a_file_of_conf_sweep_is_a_sweep_and_the_command_line_overrules_it() -> None:
    assert {file.stem for file in (ROOT / "conf" / "sweep").glob("*.yaml")} == {
        "learning_rate_by_batch", "lora", "speed",
    }  # fmt: skip
    assert len(points("sweep=learning_rate_by_batch")) == 12
    assert len(points("sweep=lora", stage="sft")) == 12
    assert {point.settings["peft.target_modules"] for point in points("sweep=lora", stage="sft")} == {
        "all-linear", "[q_proj,v_proj]",
    }  # fmt: skip
    request = read("pretrain", ["sweep=speed", "trainer.max_steps=5", "deepspeed=zero1"])
    assert request.name.startswith("speed-default-")
    assert [item for item in request.same if "max_steps" in item] == ["trainer.max_steps=5"]
    stages = {point.settings.get("deepspeed") for point in Grid(request).points}
    assert stages == {None} and len(Grid(request).points) == 4


def test_the_sweeps_own_settings_reach_no_point() -> None:
    request = read("pretrain", ["run.seed=1,2", "sweep.name=x", "sweep.retry_failed=true", "launch.devices_per_job=1"])
    assert (request.name, request.same) == ("x", [])
    again = [read("pretrain", ["run.seed=1,2", f"sweep.retry_failed={value}"]).name for value in ("true", "false")]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run.seed=1"], "-m: nothing is swept"),
        (["run.name=a,b"], "run.name: belongs to the sweep"),
        (["launch.devices_per_job=1,2"], "launch.devices_per_job: belongs to the sweep"),
        (["trainer.learning_rate=interval(1e-4,1e-2)"], "sweep.search=tpe"),
        (["launch.num_devices=1,2"], "launch.num_devices: belongs to the sweep"),
        (["paths.outputs=a,b"], "paths.outputs: belongs to the sweep"),
        (["run.seed=1,2", "sweep.name=../x"], "sweep.name=../x: names a directory"),
        (["run.seed=1,2", "trainer.lerning_rate=3"], "Did you mean trainer.learning_rate"),
        (["run.seed=range(1"], "run.seed=range(1"),
    ],
)
def test_mistakes(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=r".*") as caught:
        points(*overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment=glob(qwen3*)"],
        ["experiment=qwen3_1_7b_scratch,qwen3_1_7b_continue"],
        ["run.seed=1,2", 'sweep.name="it\'s"'],
        ["run.seed=1,2", "sweep.name='a b'"],
    ],
)
def test_the_sweeps_name_reaches_its_points(arguments: list[str]) -> None:
    request = read("pretrain", arguments)
    assert "[" not in request.name and "/" not in request.name
    config = compose("pretrain", pool.command("pretrain", request.name, Grid(request).points[0])[3:])
    assert config.run.sweep == request.name


def test_what_is_shuffled_stays_in_one_order_under_one_name() -> None:
    requests = [read("pretrain", ["run.seed=shuffle(range(1,30))"]) for _ in range(2)]
    assert requests[0] == requests[1] and requests[0].name.startswith("default-")
    seeds = [int(point.settings["run.seed"]) for point in Grid(requests[0]).points]
    assert sorted(seeds) == list(range(1, 30)) != seeds


def test_a_value_that_is_given_twice_is_one_point() -> None:
    assert [point.name for point in points("run.seed=1,1,2")] == ["seed=1", "seed=2"]
    assert len(points("trainer.learning_rate=1e-3,0.001")) == 1


GPUS = Devices("cuda", 8, "H100", True, tuple(range(8)))


def test_devices_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    found = pool.slots(GPUS, 8, 2)
    assert [slot.gpus for slot in found] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert [slot.cores for slot in found] == [tuple(range(i, i + 4)) for i in (0, 4, 8, 12)]
    assert [slot.gpus for slot in pool.slots(GPUS, 8, 3)] == [(0, 1, 2), (3, 4, 5)]
    assert [slot.gpus for slot in pool.slots(GPUS, 4, None)] == [(0, 1, 2, 3)]
    cpu = Devices("cpu", 2, "CPU", False)
    assert [(slot.devices, slot.cores) for slot in pool.slots(cpu, 2, 1)] == [
        (1, tuple(range(8))), (1, tuple(range(8, 16))),
    ]  # fmt: skip
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert [slot.cores for slot in pool.slots(cpu, 4, 2)] == [(0, 1), (0, 1)]  # fewer cores than ranks: all share them


def leave(folder: Path, point: Point, state: str, *losses: float) -> None:
    """What a run of a point leaves in its directory."""
    (folder / point.name).mkdir(parents=True)
    RunDir(folder / point.name).write_status({"state": state, "step": len(losses)})
    lines = [json.dumps({"step": step, "eval_loss": loss}) + "\n" for step, loss in enumerate(losses)]
    (folder / point.name / "metrics.jsonl").write_text("".join(lines))


def test_results_say_what_came_of_each_point(tmp_path: Path) -> None:
    request = read("pretrain", ["run.seed=1,2,3,4,5", "sweep.name=x"])
    found = Grid(request).points
    leave(tmp_path, found[0], "finished", 5.0, 3.0, 4.0)
    leave(tmp_path, found[1], "finished", 5.0, 3.5)
    leave(tmp_path, found[2], "failed", 5.0)
    leave(tmp_path, found[3], "running", 5.0)
    results = Results(tmp_path, request.config.sweep)
    assert [results.state(point) for point in found] == ["finished", "finished", "failed", "dead", "pending"]
    results.known[found[4].name] = "failed"  # it was refused, and left nothing
    best = results.best(found)
    assert best is not None and (best[0], best[1]) == (found[1], 3.5)
    results.write(found)
    with (tmp_path / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["run.seed"], row["state"], row["eval_loss"], row["best"]) for row in rows] == [
        ("1", "finished", "4.0", "3.0"), ("2", "finished", "3.5", "3.5"), ("3", "failed", "5.0", "5.0"),
        ("4", "dead", "5.0", "5.0"), ("5", "failed", "", ""),
    ]  # fmt: skip
    later = Results(tmp_path, request.config.sweep)
    assert [later.state(point) for point in found] == ["finished", "finished", "failed", "dead", "failed"]
    other = read("pretrain", ["run.seed=5,6", "sweep.name=x"])
    Results(tmp_path, other.config.sweep).write(Grid(other).points)
    kept = json.loads((tmp_path / "results.json").read_text())["points"]
    assert [(row["run.seed"], row["state"]) for row in kept][3:] == [("4", "dead"), ("5", "failed"), ("6", "pending")]
    missing = [
        row["metric"] for row in Results(tmp_path, replace(other.config.sweep, metric="eval_accuracy")).measured()
    ]
    assert missing[:2] == [None, None], "no run has that metric"
    (curve, *_) = [row["curve"] for row in later.measured()]
    assert curve == {0: 5.0, 1: 3.0, 2: 4.0}


def test_a_row_follows_its_run(tmp_path: Path) -> None:
    request = read("pretrain", ["run.seed=1,2", "sweep.name=x"])
    point = Grid(request).points[0]
    leave(tmp_path, point, "running", 5.0)
    results = Results(tmp_path, request.config.sweep)
    assert results.row(point)["best"] == 5.0
    with (tmp_path / point.name / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 1, "eval_loss": 4.0}\n')
    assert results.row(point)["best"] == 4.0
    assert results.row(point) is results.row(point), "what has not changed is not read again"


class Quiet:
    """No stop signal, or one that has come."""

    def __init__(self, count: int = 0):
        self.count, self.name = count, "SIGTERM" if count else None


def swept(tmp_path: Path, *overrides: str, stop: Quiet | None = None, devices: Devices = CPU) -> Sweep:
    arguments = [f"paths.outputs={tmp_path}", "sweep.name=x", *overrides]
    return Sweep("pretrain", read("pretrain", arguments), devices, stop or Quiet())  # type: ignore[arg-type]


def test_a_task_of_an_array_minds_its_own_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another's point is alive, or would be refused: that is its own task's matter."""
    looked_at = []

    def check(config: Config, _: object) -> list[str]:
        looked_at.append(config.run.seed)
        return ["enough"]

    alive = RunDir(tmp_path / "pretrain" / "sweeps" / "x" / "seed=1")
    assert alive.acquire()
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert swept(tmp_path, "run.seed=1,2,3").run(check) == 2
    assert looked_at == [2]


def test_a_point_that_still_runs_is_waited_for(tmp_path: Path) -> None:
    alive = RunDir(tmp_path / "pretrain" / "sweeps" / "x" / "seed=1")
    assert alive.acquire()
    assert swept(tmp_path, "run.seed=1,2", stop=Quiet(1)).run(lambda *_: []) == 75
    let_go = threading.Timer(0.5, alive.release)
    let_go.start()
    assert swept(tmp_path, "run.seed=1,2").run(lambda *_: [alive.holder() or "free"]) == 2
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
    stopped = swept(tmp_path, "run.seed=1,2", stop=stop)
    assert stopped.run(lambda *_: []) == 75
    assert [stopped.results.state(point) for point in stopped.source.points] == ["preempted", "pending"]
    again = swept(tmp_path, "run.seed=1,2", stop=Quiet(1))
    again.source.begin(again._is_wanted)
    assert again.source.left() == 2


def test_a_search_that_is_stopped_before_its_end_is_not_finished(tmp_path: Path) -> None:
    assert swept(tmp_path, "run.seed=range(1,9)", "sweep.search=tpe", stop=Quiet(1)).run(lambda *_: []) == 75


def test_more_gpus_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"launch.num_devices=16: this machine has 8 GPUs"):
        swept(tmp_path, "run.seed=1,2", "launch.num_devices=16", devices=GPUS)
