"""docs/architecture.md is true of the code: its names are there, and its lines are those of the rule's test."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

from unit.pages import spans
from unit.test_architecture import LINES, WITHOUT_TORCH

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = sorted({span for span in spans(PAGE) if re.fullmatch(r"[\w/]+\.py:[\w.]+", span)})


@cache
def defined(file: Path) -> set[str]:
    """Functions, classes, methods and what is assigned, as `Attempt.follow`."""

    def inside(body: list[ast.stmt], prefix: str) -> set[str]:
        found: set[str] = set()
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                found |= inside(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            found |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
        return found

    return inside(ast.parse(file.read_text(encoding="utf-8")).body, "")


def test_many_names_are_named() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize("name", NAMED)
def test_what_it_names_is_defined(name: str) -> None:
    file, _, wanted = name.partition(":")
    assert wanted in defined(ROOT / file)


def test_its_lines_are_those_of_the_rule() -> None:
    block = PAGE.partition("## The rule")[2].partition("    pretrain sft")[2].partition("\n\n")[0]
    rows = [re.split(r"\s{3,}", line.strip()) for line in f"pretrain sft{block}".splitlines()]
    shown = [set(" ".join(row[:-1]).split()) for row in rows]
    planned = {"web", "planner", "__main__"}
    assert shown == [set(line) - planned for line in LINES]


def test_what_is_without_torch_is_what_the_rule_says() -> None:
    (line,) = re.findall(r"\*\*Without torch:\*\*(.*)", PAGE)
    assert set(re.findall(r"`(\w+)`", line)) == set(WITHOUT_TORCH) - {"compat"}


def test_the_tour_has_8_to_12_stations() -> None:
    stations = re.findall(r"^(\d+)\. `", PAGE.partition("## Read these files first")[2].partition("\n## ")[0], re.M)
    assert stations == [str(number) for number in range(1, len(stations) + 1)] and 8 <= len(stations) <= 12


def test_every_folder_of_the_tree_is_there() -> None:
    tree = PAGE.partition("## What is where")[2].partition("\n## ")[0]
    folders = re.findall(r"^    (\w+/)", tree, re.M)
    assert len(folders) >= 8
    assert all((ROOT / folder).is_dir() for folder in folders)
