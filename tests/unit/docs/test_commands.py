"""Every command of the pages works: composed and parsed here; test_recipes.py and CI run many of them."""

import ast
import re
import sys
from pathlib import Path

import pytest

from trainyard.commands import verbs
from trainyard.config.compose import compose
from trainyard.sweeps import grid
from unit.pages import PAGES, Command, commands

FOUND = list({command.text: command for page in PAGES for command in commands(page)}.values())
STAGES = ("pretrain", "sft")
WITH_CONFIG = ("prepare", "preview")
ANY_ARGUMENTS = ("launch/test.sh", "launch/dashboard.sh", "launch/env.sh")


def kind(command: Command) -> str:
    """training, verb, script or benchmark."""
    words = command.words
    if training(command):
        return "training"
    if words[:3] == ["python", "-m", "trainyard"] or words[0] == "trainyard":
        return "verb"
    return "script" if words[0] in ("bash", "sbatch") else "python"


def training(command: Command) -> tuple[str, list[str]] | None:
    """The stage and the arguments of a command that trains."""
    words = command.words
    if words[0] == "sbatch":
        place = words.index("launch/slurm.sbatch")
        return words[place + 1], words[place + 2 :]
    if words[0] == "bash" and Path(words[1]).stem in STAGES:
        return Path(words[1]).stem, words[2:]
    rest = words[1:] if words[0] == "trainyard" else words[3:] if words[1:3] == ["-m", "trainyard"] else []
    return (rest[0], rest[1:]) if rest and rest[0] in STAGES else None


def of_kind(wanted: str) -> list[Command]:
    return [command for command in FOUND if kind(command) == wanted]


def test_the_commands_were_found() -> None:
    counts = {each: len(of_kind(each)) for each in ("training", "verb", "script", "python")}
    assert counts["training"] > 45 and counts["verb"] > 20 and counts["script"] > 8 and counts["python"] > 8, counts
    assert {"bash launch/pretrain.sh", "bash launch/sft.sh", "bash launch/test.sh"} <= {each.text for each in FOUND}


@pytest.mark.parametrize("command", of_kind("training"), ids=str)
def test_training_commands_compose(command: Command, in_root: None) -> None:
    stage, arguments = training(command) or ("", [])
    if "-m" in arguments or any(word.startswith("sweep=") for word in arguments):
        request = grid.read(stage, [word for word in arguments if word != "-m"])
        points = [] if request.config.sweep.search == "tpe" else grid.Grid(request).points
        assert len(request.swept) >= 1
        for point in points[:1]:
            assert compose(stage, point.overrides).stage == stage
        return
    overrides = [word for word in arguments if not word.startswith("-") and word != "job"]
    assert set(arguments) - set(overrides) <= {"--help", "--cfg", "job"}
    assert compose(stage, overrides).stage == stage


@pytest.mark.parametrize("command", of_kind("verb"), ids=str)
def test_verbs_take_their_arguments(command: Command, in_root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    words = command.words[1:] if command.words[0] == "trainyard" else command.words[3:]
    monkeypatch.setattr(sys, "argv", ["trainyard", *words])
    if "--help" in words:
        with pytest.raises(SystemExit, match=r"^0$"):
            verbs._arguments()
        return
    parsed = verbs._arguments()
    assert parsed.verb == words[0]
    if parsed.verb in WITH_CONFIG:
        assert compose(parsed.stage, parsed.overrides).stage == parsed.stage


@pytest.mark.parametrize("command", of_kind("script"), ids=str)
def test_scripts_name_files_that_are_there(command: Command, in_root: None) -> None:
    script, *arguments = command.words[1:]
    assert script in ANY_ARGUMENTS and Path(script).is_file()
    files = [word.partition("::")[0] for word in arguments if re.match(r"(tests|docs)/", word)]
    assert all(Path(name).exists() for name in files)


@pytest.mark.parametrize("command", of_kind("python"), ids=str)
def test_python_scripts_have_the_options(command: Command, in_root: None) -> None:
    script, *arguments = command.words[1:]
    source = Path(script).read_text(encoding="utf-8")
    strings = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    assert {word for word in arguments if word.startswith("--")} <= strings
