import pytest
from conftest import ROOT

from trainyard.config.compose import compose
from trainyard.errors import ConfigError
from trainyard.rundir.directory import run_path
from trainyard.sweeps import pool
from trainyard.sweeps.grid import Grid, Point, read


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
        config = compose("pretrain", pool.overrides("mine", point))
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


def test_what_is_shuffled_stays_in_one_order_under_one_name() -> None:
    requests = [read("pretrain", ["run.seed=shuffle(range(1,30))"]) for _ in range(2)]
    assert requests[0] == requests[1] and requests[0].name.startswith("default-")
    seeds = [int(point.settings["run.seed"]) for point in Grid(requests[0]).points]
    assert sorted(seeds) == list(range(1, 30)) != seeds


def test_a_value_that_is_given_twice_is_one_point() -> None:
    assert [point.name for point in points("run.seed=1,1,2")] == ["seed=1", "seed=2"]
    assert len(points("trainer.learning_rate=1e-3,0.001")) == 1
