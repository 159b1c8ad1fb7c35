"""The README is short, and its recipes are those of docs/recipes.md."""

import re

from conftest import ROOT

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
