import ast
import subprocess
import sys

from conftest import ROOT

HYDRA_USERS = {"trainyard/controller.py", "trainyard/config.py", "trainyard/__main__.py"}
DATA_MAY_IMPORT = {"trainyard.data", "trainyard.schema"}


def imports() -> dict[str, set[str]]:
    """Every module that each file imports, at any depth of the file."""
    found: dict[str, set[str]] = {}
    for package in ("trainyard", "pretrain", "sft"):
        for file in (ROOT / package).rglob("*.py"):
            names: set[str] = set()
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            found[str(file.relative_to(ROOT))] = names
    return found


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_imports_point_one_way() -> None:
    found = imports()
    assert len(found) > 20
    for file, names in found.items():
        if file.startswith("trainyard/"):
            assert not roots(names) & {"pretrain", "sft"}, file
        if roots(names) & {"hydra", "omegaconf"}:
            assert file in HYDRA_USERS, file
        if file.startswith("trainyard/data/"):
            ours = {name for name in names if name.startswith("trainyard")}
            assert all(name.startswith(tuple(DATA_MAY_IMPORT)) for name in ours), (file, ours)


def test_the_controller_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'deepspeed', 'datasets', 'peft', 'swanlab'}"
    verbs = "[importlib.import_module(verb.module) for verb in trainyard.__main__.VERBS.values()]"
    code = (
        f"import importlib, sys, trainyard.controller, trainyard.__main__; {verbs}; print({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"
