"""The README is short, its recipes are those of docs/recipes.md, and its mistakes are answered as it shows."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT

from trainyard import errors
from trainyard.commands import train
from trainyard.machine.signals import StopSignals

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_its_recipes_are_those_of_the_page_of_recipes() -> None:
    recipes = re.findall(r"^\| [^|]+ \| `((?:bash|python) [^`]+)` \|$", README, re.M)
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert len(recipes) == 10
    assert all(f"`{command}`" in page for command in recipes)


def test_the_two_commands_come_first() -> None:
    first = README.partition("```bash\n")[2].partition("```")[0].splitlines()
    assert first == ["bash launch/pretrain.sh", "bash launch/test.sh"]
    assert (ROOT / "docs" / "dashboard.png").stat().st_size > 10_000


def test_the_mistakes_are_answered_as_it_shows(
    in_root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = re.findall(r"^    (\$ bash launch/pretrain\.sh .*|error: .*)$", README, re.M)
    monkeypatch.setenv("TRAINYARD_LOCAL", "")
    with StopSignals() as stop:
        code = train.main("pretrain", [*shlex.split(shown[0])[3:], f"paths.outputs={tmp_path}"], stop)
    assert code == errors.WRONG
    assert len(shown) == 4 and capsys.readouterr().err.splitlines() == shown[1:]
