"""tests/unit has the tree of trainyard: trainyard/a/b.py is tested by tests/unit/a/test_b.py or test_b_<facet>.py."""

from pathlib import Path

from conftest import ROOT

PACKAGE, TESTS = ROOT / "trainyard", ROOT / "tests" / "unit"

NOT_OF_A_MODULE = (
    "docs/",
    "launch/",
    "pretrain/",
    "sft/",
    "test_architecture.py",
    "test_tree.py",
)
"""Tests of pages, of launch/ and of the stages, which lie outside trainyard/, and of the whole tree."""

MODULES = {str(path.relative_to(PACKAGE).with_suffix("")) for path in PACKAGE.rglob("*.py")}
MODULES = {module.strip("_") for module in MODULES if not module.endswith("__init__")}  # test_main.py of __main__.py

FILES = {str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")}
FILES = {file for file in FILES if not file.startswith(NOT_OF_A_MODULE)}


def module_of(file: str, modules: set[str]) -> str | None:
    """The module that a test file names, the one with the longest name; None if there is none.

    With modules `a/b` and `a/b_c`, a/test_b_d.py names `a/b`, and a/test_b_c.py names `a/b_c`.
    """
    path = Path(file)
    name = path.stem.removeprefix("test_")
    while name:
        if (module := str(path.parent / name)) in modules:
            return module
        name = name.rpartition("_")[0]
    return None


def test_the_module_that_a_file_names() -> None:
    modules = {"top", "a/b", "a/b_c"}
    files = {"test_top.py": "top", "a/test_b.py": "a/b", "a/test_b_d_e.py": "a/b", "a/test_b_c.py": "a/b_c"}
    files |= {"test_b.py": None, "a/test_c.py": None, "a/test_bc.py": None}
    assert {file: module_of(file, modules) for file in files} == files


def test_every_file_names_a_module() -> None:
    assert len(FILES) > 100
    assert [file for file in sorted(FILES) if module_of(file, MODULES) is None] == []


def test_every_module_has_a_test() -> None:
    assert len(MODULES) > 130
    found = {module_of(file, MODULES) for file in FILES}
    assert sorted(MODULES - found) == []
