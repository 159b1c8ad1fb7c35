"""conf/local.yaml: between the defaults and the command line, and never a part of what a run is."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_env

from trainyard.config import local
from trainyard.config.axes import axes
from trainyard.config.compose import compose
from trainyard.config.overrides import default_name
from trainyard.errors import ConfigError
from trainyard.sweeps import grid


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of this machine, for this test alone."""
    file = tmp_path / "local.yaml"
    monkeypatch.setenv(local.VARIABLE, str(file))
    return file


def problems(*overrides: str, stage: str = "pretrain") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose(stage, overrides)
    return caught.value.problems


def test_without_a_file_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(local.VARIABLE, raising=False)
    monkeypatch.setattr(local, "SHIPPED", tmp_path)
    assert local.read() == local.LocalSettings("conf/local.yaml")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "local.yaml").write_text("")
    assert local.read() == local.LocalSettings("conf/local.yaml")
    (tmp_path / "conf" / "local.yaml").write_text("paths: {outputs: /scratch}")
    assert local.read().overrides([]) == ["paths.outputs=/scratch"]
    monkeypatch.setenv(local.VARIABLE, "")
    assert local.read().overrides([]) == []


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_it_stands_between_the_defaults_and_the_command_line(write: Path, stage: str) -> None:
    write.write_text("")
    before = compose(stage, [])
    write.write_text(
        "paths: {outputs: '/scratch/my outputs'}\n"
        "launch: {grace_period_s: 50, hostfile: /etc/hosts, num_devices: 4}\n"
        "tracking: {mode: offline, tags: [big, 'two words'], workspace: null}\n"
        "launch.max_restarts: 7\n"
    )
    config = compose(stage, ["launch.num_devices=2", "tracking=swanlab"])
    assert config.paths.outputs == "/scratch/my outputs"
    assert (config.launch.grace_period_s, config.launch.hostfile, config.launch.max_restarts) == (50, "/etc/hosts", 7)
    assert config.launch.num_devices == 2
    assert (config.tracking.mode, config.tracking.tags) == ("offline", ["big", "two words"])
    for section in ("model", "data", "trainer", "run", "tokenizer", "deepspeed", "peft"):
        assert getattr(config, section) == getattr(before, section)


def test_a_command_for_one_of_several_nodes_goes_without_its_hostfile(write: Path) -> None:
    """launch/slurm.sbatch adds launch.node_rank and the address of node 0 to the command."""
    write.write_text("launch: {hostfile: /etc/hostfile, max_restarts: 7}")
    launch = compose("pretrain", ["launch.num_nodes=2", "launch.node_rank=0", "launch.master_addr=a"]).launch
    assert (launch.hostfile, launch.node_rank, launch.max_restarts) == (None, 0, 7)
    assert compose("pretrain", ["launch.node_rank=0", "launch.hostfile=b"]).launch.hostfile == "b"
    assert compose("pretrain", ["launch.node_rank=null"]).launch.hostfile == "/etc/hostfile"


def test_the_outputs_of_this_machine(write: Path) -> None:
    write.write_text("paths: {outputs: /scratch}")
    assert local.default_outputs() == "/scratch"
    write.write_text("paths: {}")
    with pytest.raises(ConfigError, match="paths must hold settings"):
        local.default_outputs()
    write.write_text("")
    assert local.default_outputs() == "outputs"


def test_names_of_runs_do_not_depend_on_it(write: Path) -> None:
    write.write_text("launch: {max_restarts: 7}")
    assert default_name([]) == "default"
    assert compose("pretrain", []).run.name is None


def test_what_shapes_a_run_is_refused_with_the_name_of_the_file(write: Path) -> None:
    write.write_text("trainer: {learning_rate: 1, max_steps: 2}\nrun: {name: mine}\npaths: {outputs: o}\n")
    where = "an error that names its file"
    assert [problem.partition(" is not")[0] for problem in problems()] == [
        f"{write}: trainer.learning_rate",
        f"{write}: trainer.max_steps",
        f"{write}: run.name",
    ], where
    assert "which are paths., launch., tracking." in problems()[0] and "conf/experiment/" in problems()[0]


def test_its_mistakes_are_reported_beside_those_of_the_command_line(write: Path) -> None:
    write.write_text("launch: {grace_periods: 50, max_restarts: many}\nmodel: llama_8b\n")
    found = problems("trainer.lerning_rate=1")
    assert found[0].startswith(f"{write}: model is not a setting of one machine")
    assert f"{write}: launch.grace_periods=50: there is no setting launch.grace_periods. Did you mean" in found[1]
    assert found[2] == f"{write}: launch.max_restarts=many: must be a whole number, got 'many'"
    assert found[3].startswith("trainer.lerning_rate=1: there is no setting")
    assert len(found) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("launch: [1", ":1: cannot be read: "),
        ("just words", ": must hold settings, as launch:"),
        ("tracking: none", ": tracking must hold settings, as tracking: {name: value}; choose an option"),
        ("launch:", ": launch must hold settings, as launch: {name: value}; remove the line"),
    ],
)
def test_a_file_of_another_shape_is_named(write: Path, text: str, message: str) -> None:
    write.write_text(text)
    (found,) = problems()
    assert found.startswith(f"{write}{message}")


def test_a_file_that_is_named_must_be_there(write: Path) -> None:
    (found,) = problems()
    assert found.startswith(f"{write}: cannot be read: ") and "No such file" in found


def test_sweeps_see_it(write: Path) -> None:
    write.write_text("paths: {outputs: /scratch}")
    request = grid.read("pretrain", ["trainer.learning_rate=1e-3,1e-4"])
    assert request.config.paths.outputs == "/scratch"
    assert axes("pretrain", ["trainer.learning_rate=1e-3,1e-4"])[0] == []
    assert not any("scratch" in item for item in request.same)  # every point reads the file by itself


def test_hydras_own_options_see_it(write: Path, tmp_path: Path) -> None:
    write.write_text("paths: {outputs: /scratch}\n")
    command = [sys.executable, "-m", "pretrain", "--cfg", "job", "launch.num_devices=2"]
    env = clean_env(PYTHONPATH=str(ROOT)) | {local.VARIABLE: str(write)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "outputs: /scratch" in done.stdout, done.stderr
    write.write_text("data: {block_size: 8}\n")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {write}: data.block_size is not a setting of one machine")
