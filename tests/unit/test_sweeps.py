import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from trainyard.config import ConfigError, compose
from trainyard.devices import Devices
from trainyard.rundir import RunDir, run_path
from trainyard.sweeps import pool
from trainyard.sweeps.grid import Grid, Point, read
from trainyard.sweeps.results import Results
from trainyard.sweeps.search import Search


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
        (["run.seed=1,2", "trainer.lerning_rate=3"], "Did you mean trainer.learning_rate"),
        (["run.seed=range(1"], "run.seed=range(1"),
    ],
)
def test_mistakes(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=r".*") as caught:
        points(*overrides)
    assert message in str(caught.value)


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


def search(*overrides: str, earlier: list[dict[str, Any]] | None = None) -> Search:
    lr = "trainer.learning_rate=tag(log, interval(1e-5, 1e-1))"
    return Search(read("pretrain", ["sweep.search=tpe", lr, "model.hidden_size=64,128", *overrides]), earlier or [])


def test_a_search_learns_and_goes_on_where_it_was() -> None:
    found = search("sweep.trials=30")
    losses: dict[str, float] = {}
    rows = []
    while point := found.next():
        rate = float(point.settings["trainer.learning_rate"])
        assert 1e-5 <= rate <= 1e-1 and point.settings["model.hidden_size"] in ("64", "128")
        losses[point.name] = abs(rate - 3e-3) / 3e-3 + (point.settings["model.hidden_size"] == "64")
        found.tell(point, losses[point.name])
        rows.append({"point": point.name, **point.settings, "state": "finished", "metric": losses[point.name]})
    assert len(rows) == 30
    assert min(list(losses.values())[15:]) < 0.5
    again = search("sweep.trials=30", earlier=rows)
    assert again.next() is None and [point.name for point in again.points] == list(losses)
    half = [*rows[:10], rows[10] | {"state": "preempted"}]
    later = search("sweep.trials=30", earlier=half)
    assert (again.begin(lambda point: True), later.begin(lambda point: True)) == (0, 20)
    first = later.next()
    assert first is not None and first.name == rows[10]["point"]  # what was interrupted comes first
    count = 1
    later.tell(first, 1.0)
    while point := later.next():
        later.tell(point, 1.0)
        count += 1
    assert count == 20


def test_failed_points_are_tried_again_when_asked() -> None:
    lr = {"trainer.learning_rate": "0.001", "model.hidden_size": "64"}
    earlier = [{"point": "learning_rate=0.001,hidden_size=64", **lr, "state": "failed", "metric": None}]
    assert search("sweep.trials=1", earlier=earlier).next() is None
    again = search("sweep.trials=1", "sweep.retry_failed=true", earlier=earlier).next()
    assert again is not None and again.settings == lr


def test_a_point_falls_behind_the_median_of_those_before() -> None:
    found = search("sweep.trials=9")
    for _ in range(5):
        point = found.next()
        assert point is not None
        assert not found.falls_behind(point, {0: 9.0, 10: 5.0})
        found.tell(point, 5.0)
    good, bad = found.next(), found.next()
    assert good is not None and bad is not None
    assert not found.falls_behind(good, {0: 9.0, 10: 4.0})
    assert found.falls_behind(bad, {0: 9.0, 10: 6.0})
    found.tell(bad, None, gave_up=True)
    never = search("sweep.trials=9", "sweep.prune=false")
    for value in range(6):
        point = never.next()
        assert point is not None
        assert not never.falls_behind(point, {10: float(value)})
        never.tell(point, float(value))
