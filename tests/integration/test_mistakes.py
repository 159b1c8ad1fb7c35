"""Wrong requests: every mistake is named, the exit code is 2, and no file changes."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Pretrain, clean_env, command

from trainyard.rundir.directory import RunDir

WRONG = {
    "trainer.lerning_rate=1": "Did you mean trainer.learning_rate?",
    "trainer.max_steps=many": "must be a whole number",
    "tracking=swanlap": "Did you mean swanlab?",
    "trainer.output_dir=x": "set paths.outputs and run.name",
}
INVALID = {
    "data.block_size=999": "context is 128 tokens",
    "trainer.global_batch_size=9": "must be a multiple of 4",
    "deepspeed=zero3_offload": "this machine has none",
    "tokenizer.path=/nowhere": "no such directory",
}


@pytest.mark.parametrize("wanted", [WRONG, INVALID, WRONG | INVALID], ids=["wrong", "invalid", "both"])
def test_all_mistakes_at_once_and_nothing_touched(pretrain: Pretrain, outputs: Path, wanted: dict[str, str]) -> None:
    before = sorted(outputs.rglob("*"))
    done = pretrain("mistaken", *wanted, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.code == 2
    for override, message in wanted.items():
        assert message in done.stderr, override
    assert done.stderr.count("error: ") == len(wanted)
    assert "Traceback" not in done.stderr
    assert sorted(outputs.rglob("*")) == before


@pytest.mark.faults(case="21", fault="a command on the directory of a run that is alive")
def test_a_run_that_is_alive_is_not_disturbed(pretrain: Pretrain, outputs: Path) -> None:
    run = RunDir(outputs / "pretrain" / "busy")
    assert run.acquire()
    try:
        done = pretrain("busy")
    finally:
        run.release()
    assert done.code == 2
    assert f"the run is alive, {run.path.joinpath('.lock').read_text()}" in done.stderr
    assert [path.name for path in run.path.iterdir()] == [".lock"]


def test_bad_data_is_named_and_the_run_does_not_start(pretrain: Pretrain, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "good"}\n{"text": \n')
    done = pretrain("bad-data", f"data.sources=[{{path: '{bad}', format: jsonl}}]")
    assert done.code == 2
    assert f"{bad}:2: not valid JSON" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.status["state"] == "failed"


@pytest.mark.parametrize("option", ["--help", "--cfg"])
def test_hydras_own_options_answer_and_start_nothing(outputs: Path, corpus: Path, option: str) -> None:
    arguments = [*command(outputs, "x", corpus), option, *(["job"] if option == "--cfg" else [])]
    done = subprocess.run(arguments, env=clean_env(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "block_size: 64" in done.stdout
    if option == "--help":
        assert "deepspeed: none, zero1, zero2, zero2_offload, zero3, zero3_offload" in done.stdout
    assert not (outputs / "pretrain" / "x").exists()


def test_a_hub_that_does_not_answer_is_named(pretrain: Pretrain) -> None:
    done = pretrain(
        "no-hub", "data.sources=[{path: owner/corpus, format: hub}]", env={"HF_ENDPOINT": "http://127.0.0.1:9"}
    )
    assert done.code == 2
    assert "owner/corpus: neither a local path nor a dataset that the hub would name" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that is mounted read-only, so that root cannot write to it either."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_folder_without_permission_is_named(pretrain: Pretrain, read_only: Path) -> None:
    done = pretrain("shut-out", f"paths.outputs={read_only / 'outputs'}")
    assert done.code == 2
    assert f"no permission to write in {read_only}" in done.stderr


def test_a_multirun_is_one_launch_after_another_with_a_directory_each(outputs: Path, corpus: Path) -> None:
    """Both points are refused: Hydra expands the sweep, each point is checked, and the worst exit code counts."""
    bash, script, *overrides = command(outputs, "sweep", corpus)
    arguments = [bash, script, "-m", *overrides, "trainer.global_batch_size=9,11"]
    done = subprocess.run(arguments, env=clean_env(), capture_output=True, text=True)
    assert done.returncode == 2
    for size in (9, 11):
        assert f"trainer.global_batch_size={size}: must be a multiple of 4" in done.stderr


def test_a_corpus_that_is_too_small_is_named_before_the_launch(pretrain: Pretrain, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("a few words\nand a few more\n")
    done = pretrain("short", f"data.sources=[{{path: '{tmp_path / 'short.txt'}', format: text}}]")
    assert done.code == 2
    assert "data.block_size=64: the corpus has" in done.stderr
    assert not (done.run / "logs" / "launcher.log").exists()


def test_a_recipe_in_another_folder_reaches_the_preparation(pretrain: Pretrain, tmp_path: Path) -> None:
    """The data is prepared by a process of its own, which reads the recipe as well; then the corpus is too small."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\ndata: {end_of_text: false}\n")
    (tmp_path / "short.txt").write_text("a few words\nand a few others\n")
    source = f"data.sources=[{{path: '{tmp_path / 'short.txt'}', format: text}}]"
    done = pretrain("recipe", source, "--config-dir", str(tmp_path), "experiment=mine")
    assert done.code == 2
    assert "data.block_size=64: the corpus has" in done.stderr
