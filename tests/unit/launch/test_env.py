"""launch/env.sh with a stand-in for Python, which records its calls and installs nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_env

FAKE_PYTHON = """#!/bin/bash
# Makes an "environment" whose python is this script; fails at the pip call whose number is in $FAIL_AT.
case "$*" in
    "-I -m venv --clear "*) rm -rf "$5"; mkdir -p "$5/bin"; cp "$0" "$5/bin/python"; echo venv >>"$CALLS" ;;
    *" install "*) echo "pip ${*: -1}" >>"$CALLS"; [ "$(grep -c ^pip "$CALLS")" != "$FAIL_AT" ] ;;
    *importlib.metadata*) exit 1 ;;
    --version) echo "Python 3.99" ;;
    *) exit 0 ;;
esac
"""


class Checkout:
    """A copy of launch/ with small files beside it for the requirements."""

    def __init__(self, root: Path):
        self.root = root
        (root / "launch").mkdir()
        (root / "launch" / "env.sh").write_text((ROOT / "launch" / "env.sh").read_text())
        (root / "pyproject.toml").write_text("[project]\n")
        (root / "constraints.txt").write_text("torch==2.13.0\n")
        self.python = root / "fake-python"
        self.python.write_text(FAKE_PYTHON)
        self.python.chmod(0o755)
        self.calls = root / "calls"

    def source(self, fail_at: int = 0, **env: str) -> tuple[int, list[str], str]:
        """Sources env.sh. Returns its exit code, its calls of Python, and the Python that a script would then run."""
        self.calls.write_text("")
        clean = {key: value for key, value in clean_env().items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
        clean |= {
            "PATH": "/usr/bin:/bin",
            "PYTHON": str(self.python),
            "CALLS": str(self.calls),
            "FAIL_AT": str(fail_at),
        }
        script = f"source {self.root}/launch/env.sh && [ $PYTHONUTF8 = 1 ] && command -v python"
        done = subprocess.run(["bash", "-c", script], env=clean | env, capture_output=True, text=True, cwd="/")
        return done.returncode, self.calls.read_text().splitlines(), done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_an_environment_is_made_once_and_then_found(checkout: Checkout) -> None:
    code, calls, python = checkout.source()
    assert (code, calls) == (0, ["venv", "pip torch", "pip ."])
    assert python == str(checkout.root / ".venv" / "bin" / "python")
    assert checkout.source() == (0, [], python)


@pytest.mark.parametrize("fail_at", [1, 2])
def test_an_install_that_was_cut_off_starts_clean(checkout: Checkout, fail_at: int) -> None:
    code, _, python = checkout.source(fail_at=fail_at)
    assert (code, python) == (2, "")
    assert checkout.source()[:2] == (0, ["venv", "pip torch", "pip ."])


def test_changed_constraints_update_what_is_there(checkout: Checkout) -> None:
    checkout.source()
    (checkout.root / "constraints.txt").write_text("torch==2.14.0\n")
    assert checkout.source()[1] == ["pip torch", "pip ."]
    assert checkout.source()[1] == []


def test_dev_tools_are_added_once_and_serve_the_other_scripts(checkout: Checkout) -> None:
    checkout.source()
    assert checkout.source(TRAINYARD_EXTRAS="dev")[1] == ["pip torch", "pip .[dev]"]
    assert checkout.source(TRAINYARD_EXTRAS="dev")[1] == []
    assert checkout.source()[1] == []


def test_a_moved_checkout_is_installed_anew(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> None:
    checkout.source()
    moved = tmp_path_factory.mktemp("moved") / "here"
    checkout.root.rename(moved)
    checkout.root, checkout.calls, checkout.python = moved, moved / "calls", moved / "fake-python"
    assert checkout.source()[1] == ["venv", "pip torch", "pip ."]


def test_an_active_environment_with_the_project_is_used(checkout: Checkout) -> None:
    active = str(Path(sys.executable).parent.parent)
    code, calls, python = checkout.source(VIRTUAL_ENV=active)
    assert (code, calls, python) == (0, [], f"{active}/bin/python")
    assert not (checkout.root / ".venv").exists()


def test_an_active_environment_without_it_is_left_alone(checkout: Checkout, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "bin").mkdir(parents=True)
    (other / "bin" / "python").write_text(FAKE_PYTHON)
    (other / "bin" / "python").chmod(0o755)
    _, calls, python = checkout.source(VIRTUAL_ENV=str(other))
    assert calls == ["venv", "pip torch", "pip ."]
    assert python == str(checkout.root / ".venv" / "bin" / "python")
