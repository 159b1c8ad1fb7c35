"""Every command of the README is one that works: composed and checked here, the first ones run by CI itself."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT

from trainyard.config.compose import compose

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"`((?:bash|python) [^`]+)`", README) + re.findall(r"^((?:bash|python) .*)$", README, re.M)
TRAINING = [command for command in COMMANDS if command.startswith(("bash launch/pretrain.sh", "bash launch/sft.sh"))]
OTHERS = sorted(set(COMMANDS) - set(TRAINING))


def test_the_commands_were_found() -> None:
    assert len(TRAINING) > 30
    assert {"bash launch/pretrain.sh", "bash launch/sft.sh"} <= set(TRAINING)


@pytest.mark.parametrize("command", sorted(set(TRAINING)))
def test_training_commands_compose(command: str, in_root: None) -> None:
    stage = Path(shlex.split(command)[1]).stem
    overrides = [word for word in shlex.split(command)[2:] if not word.startswith("-")]
    assert compose(stage, [word for word in overrides if word != "job"]).stage == stage


@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_name_files_that_are_there(command: str, in_root: None) -> None:
    words = shlex.split(command)
    files = [word for word in words[1:] if "/" in word and "=" not in word and not re.match(r"\d/\d|outputs/", word)]
    verbs = words[1:3] == ["-m", "trainyard"]
    assert files or verbs
    assert all(Path(name).exists() for name in files)


def test_every_path_of_the_tree_is_there() -> None:
    tree = README.split("## What is where")[1].split("`bash")[0]
    folders = re.findall(r"^    (\w+/)", tree, re.M)
    assert len(folders) >= 7
    assert all((ROOT / folder).is_dir() for folder in folders)
    assert (ROOT / "docs" / "dashboard.png").stat().st_size > 10_000


def test_the_table_of_faults_has_all_of_them() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    marked = re.findall(r'\bfaults\(\s*case="([\d, ]+)",\s*fault="([^"]+)"', sources)
    shown = re.findall(r"^\| ([\d, ]+) \| (.+) \| (\d+ passed) \|$", README, re.M)
    assert len(marked) > 60
    assert {(case, fault) for case, fault, _ in shown} == set(marked)
