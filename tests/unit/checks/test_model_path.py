"""What a user may name as a model: each is understood, or said to be what it is."""

from pathlib import Path

import pytest

from trainyard.checks.model_path import inside_run, model_problem
from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.machine.devices import CPU


def files(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("{}")
    return directory


def said(path: Path, *, pretrained: bool = True) -> str:
    return " ".join(model_problem(str(path), pretrained=pretrained))


def test_a_run_stands_for_its_model(tmp_path: Path) -> None:
    run = files(tmp_path / "run", "config.yaml", "model/config.json", "model/model.safetensors",
                "model/tokenizer_config.json", "checkpoints/checkpoint-5/config.json")  # fmt: skip
    overrides = [f"model.path={run}"]
    config = compose("sft", overrides)
    values = {each.key: each for each in resolve(config, overrides, CPU, {})}
    assert config.model.path == values["model.path"].value == str(run / "model")
    assert values["model.path"].reason == f"the model of the run {run}"
    assert inside_run(str(run), "tokenizer_config.json") == str(run / "model")
    assert inside_run(str(run / "model"), "config.json") is None
    assert inside_run("owner/name", "config.json") is inside_run(None, "config.json") is None
    assert said(run / "model") == ""


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["config.json", "pytorch_model.bin"], ""),
        (["config.json", "model.safetensors.index.json"], ""),
        (["config.json"], "holds no weights; set model.init=scratch"),
        (["config.json", "global_step3/x"], "holds no weights, as the ranks of this checkpoint divide them; let"),
        (["adapter_config.json"], "holds an adapter and not a model. `python -m trainyard export "),
        (["config.yaml", "model/adapter_config.json"], "holds an adapter and not a model."),
        (["config.yaml", "checkpoints/checkpoint-5/config.json"], "this run has left no model yet. Let it end, or"),
        (["checkpoint-9/config.json", "checkpoint-10/config.json"], "/checkpoint-10"),
        (["notes.txt"], "holds no config.json. Give a directory that save_pretrained wrote"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_named(tmp_path: Path, names: list[str], message: str) -> None:
    place = files(tmp_path / "place", *names)
    assert (message in said(place)) if message else said(place) == ""
    if "config.json" in names:
        assert said(place, pretrained=False) == ""
    else:
        assert said(place, pretrained=False) == said(place)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no such directory" in said(tmp_path / "none")
    assert list(model_problem("owner/name", pretrained=True)) == list(model_problem(None, pretrained=True)) == []
