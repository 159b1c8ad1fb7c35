"""The rule of docs/architecture.md, read from the imports: which package may import which, at any depth of a file.

Names in strings count as imports too: `-m trainyard.x` and importlib start or load a module as an import does.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT

from trainyard.config.stages import STAGES

LINES = [
    [*STAGES, "__main__"],
    ["commands", "web"],
    ["sweeps"],
    ["control"],
    ["runs"],
    ["training", "checks"],
    ["tracking"],
    ["checkpoint", "inference", "planner"],
    ["data", "model"],
    ["rundir"],
    ["config"],
    ["machine"],
    ["errors", "files", "compat", "start"],
]
"""A package imports only packages of the lines below its own."""

TABLE = "trainyard/config/stages.py"
OURS = "|".join(("trainyard", *STAGES))
PLACE = {name: number for number, line in enumerate(LINES) for name in line}

CONTROLLER = {"checks", "runs", "control", "sweeps"}
"""The other world than training: the two meet in the run directory."""

WITHOUT_TORCH = [*LINES[-1], "machine", "config", "rundir", "checks", "runs", "control", "sweeps"]
HEAVY = {"torch", "transformers", "deepspeed", "datasets", "peft", "swanlab"}

USERS = {
    "hydra": r"config/(hydra|compose|axes)\.py|commands/train\.py",
    "omegaconf": r"config/(hydra|compose|axes)\.py|commands/train\.py",
    "swanlab": r"tracking/\w+\.py|compat\.py",
    "optuna": r"sweeps/search\.py",
    "matplotlib": r"runs/charts\.py",
    "gradio": r"web/\w+\.py",
}
"""Libraries that only some files import."""

DATA = {
    "batches": {"sequences", "store", "tokenization"},
    "sequences": {"store", "tokenization"},
    "store": {"tokenization"},
    "tokenization": set(),
    "conversations": {"tokenization"},
    "sources": {"conversations", "tokenization"},
    "preparation": {"sequences", "store", "tokenization", "conversations", "sources"},
}
"""What each part of `data` may import of the others."""


class Import(NamedTuple):
    """A module that a file names: `trainyard.data.store`, `torch.distributed`."""

    file: str
    line: int
    module: str

    @property
    def importer(self) -> str:
        """The package, or the module of the root, that the file belongs to."""
        parts = Path(self.file).with_suffix("").parts
        return parts[1] if parts[0] == "trainyard" and len(parts) > 1 else parts[0]

    @property
    def imported(self) -> str | None:
        """The package of ours that is imported; None for a library and for the root itself."""
        parts = self.module.split(".")
        if parts[0] in STAGES:
            return parts[0]
        return parts[1] if parts[0] == "trainyard" and len(parts) > 1 else None

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def files() -> list[Path]:
    return sorted(file for package in ("trainyard", *STAGES) for file in (ROOT / package).rglob("*.py"))


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, and every module of ours that a string which is no docstring names."""
    docstrings = {
        id(node.value)
        for parent in ast.walk(tree)
        if isinstance(body := getattr(parent, "body", None), list)
        for node in body
        if isinstance(node, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the package"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found = re.findall(rf"\b(?:{OURS})(?:\.[a-z_]+)+\b(?![/(])", node.value)
            yield from ((node.lineno, name) for name in found if not re.search(r"\.(sh|py|yaml|md|json)\b", name))


@cache
def imports() -> list[Import]:
    found = []
    for file in files():
        name = str(file.relative_to(ROOT))
        found += [Import(name, line, module) for line, module in named(ast.parse(file.read_text("utf-8")))]
    assert len(found) > 900 and len({each.file for each in found}) > 120
    return found


def ours() -> list[Import]:
    """Imports of one package of ours by another."""
    found = [each for each in imports() if each.imported and each.imported != each.importer]
    found = [each for each in found if not re.fullmatch(r"trainyard\.(?:[A-Z]+|__version__)", each.module)]
    found = [each for each in found if each.importer != "__init__"]  # trainyard itself
    found = [each for each in found if each.file != TABLE or each.imported not in STAGES]  # it may name them
    assert len(found) > 300
    return found


def test_every_package_has_a_line() -> None:
    there = {path.stem for path in (ROOT / "trainyard").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert there - {"__init__", "__pycache__"} <= set(PLACE)


def test_the_root_holds_packages_and_a_few_modules() -> None:
    names = {path.name for path in (ROOT / "trainyard").glob("*.py")}
    assert names == {"__init__.py", "__main__.py", "errors.py", "files.py", "compat.py", "start.py"}


def test_a_package_imports_only_packages_of_the_lines_below_its_own() -> None:
    wrong = [each for each in ours() if PLACE[each.importer] >= PLACE[each.imported or ""]]
    assert not wrong, "\n".join(map(str, wrong))


def test_the_modules_of_the_root_import_nothing_of_ours() -> None:
    wrong = [each for each in imports() if each.importer in LINES[-1] and each.module.startswith("trainyard")]
    assert not wrong, "\n".join(map(str, wrong))


def test_the_two_worlds_meet_in_the_run_directory_alone() -> None:
    wrong = [each for each in ours() if {each.importer, each.imported} & {"training"} and each.importer in CONTROLLER]
    wrong += [each for each in ours() if each.importer == "training" and each.imported in CONTROLLER]
    assert not wrong, "\n".join(map(str, wrong))


def test_trainyard_names_no_stage_but_in_their_table() -> None:
    wrong = [
        each for each in imports() if each.imported in STAGES and each.importer != each.imported and each.file != TABLE
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_data_takes_the_schema_alone_from_the_config() -> None:
    wrong = [
        each
        for each in ours()
        if (each.importer, each.imported) == ("data", "config")
        and not each.module.startswith(("trainyard.config.schema", "trainyard.config.stages"))
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_the_parts_of_data_build_on_each_other() -> None:
    def part(module: str) -> str:
        return module.split(".")[2]

    inside = [each for each in imports() if each.importer == "data" and each.module.startswith("trainyard.data.")]
    pairs = [(part(each.file.removesuffix(".py").replace("/", ".")), part(each.module), each) for each in inside]
    assert len(pairs) > 60
    wrong = [each for user, used, each in pairs if user != used and user != "__init__" and used not in DATA[user]]
    assert not wrong, "\n".join(map(str, wrong))


def test_some_libraries_have_one_place() -> None:
    users = [each for each in imports() if each.module.partition(".")[0] in USERS]
    assert len(users) > 15
    wrong = [
        each
        for each in users
        if not re.fullmatch("trainyard/" + f"({USERS[each.module.partition('.')[0]]})", each.file)
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_the_controller_s_packages_import_nothing_heavy_in_any_function() -> None:
    own = [each for each in imports() if each.importer in WITHOUT_TORCH and each.importer != "compat"]
    assert len(own) > 500
    wrong = [each for each in own if each.module.partition(".")[0] in HEAVY]
    assert not wrong, "\n".join(map(str, wrong))


def test_a_rank_loads_nothing_of_the_controller() -> None:
    """The ranks' programs, what they import in their functions, and all of `training`, in a process of their own."""
    programs = [stage.rank_module for stage in STAGES.values()]
    starts = {f"{name.replace('.', '/')}.py" for name in programs}
    named = {each.module for each in imports() if each.file in starts and each.module.startswith("trainyard.")}
    inside = {name if (ROOT / f"{name.replace('.', '/')}.py").is_file() else name.rpartition(".")[0] for name in named}
    files = (ROOT / "trainyard" / "training").rglob("[a-z]*.py")
    training = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    wanted = {*programs, *inside, *training}
    assert len(programs) > 1 and len(inside) > 8 and len(training) > 20
    code = f"import importlib, sys; [*map(importlib.import_module, {sorted(wanted)})]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert {"torch", *wanted} <= loaded, done.stderr
    others = {*CONTROLLER, "commands"}
    assert {name for name in loaded if name.startswith("trainyard.") and name.split(".")[1] in others} == set()


@pytest.mark.parametrize("package", [*WITHOUT_TORCH, "commands"])
def test_the_controller_s_packages_import_nothing_heavy(package: str) -> None:
    place = ROOT / "trainyard" / package
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")])
    ]
    code = f"import importlib, sys; [*map(importlib.import_module, {modules})]; print({HEAVY} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr
