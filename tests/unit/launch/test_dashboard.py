"""The folder that launch/dashboard.sh serves."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_env

FAKE_SWANLAB = """#!/bin/bash
echo "swanlab $*"
"""


@pytest.mark.parametrize(
    ("settings", "words", "answer"),
    [
        ("paths: {outputs: mine}", [], "swanlab watch mine/swanlog\n"),
        ("paths: {outputs: mine}", ["--port", "1"], "swanlab watch mine/swanlog --port 1\n"),
        ("paths: {outputs: mine}", ["other", "--port", "1"], "swanlab watch other/swanlog --port 1\n"),
        ("paths: [1", ["other"], "swanlab watch other/swanlog\n"),
        ("", [], "dashboard: there is no outputs/swanlog. Start a run first"),
        ("paths: [1", [], "error: local.yaml:1: cannot be read: "),
    ],
)
def test_it_is_that_of_the_command_or_of_this_machine(
    tmp_path: Path, settings: str, words: list[str], answer: str
) -> None:
    for name in ("mine", "other"):
        (tmp_path / name / "swanlog").mkdir(parents=True)
    (tmp_path / "local.yaml").write_text(settings)
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "dashboard.sh").write_text((ROOT / "launch" / "dashboard.sh").read_text())
    (tmp_path / "launch" / "env.sh").write_text(
        f"TRAINYARD_ROOT={ROOT}\nexport PATH={tmp_path}/bin:{Path(sys.executable).parent}:$PATH\n"
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "swanlab").write_text(FAKE_SWANLAB)
    (tmp_path / "bin" / "swanlab").chmod(0o755)
    env = clean_env(PYTHONPATH=str(ROOT), TRAINYARD_LOCAL="local.yaml")
    command = ["bash", "launch/dashboard.sh", *words]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.stdout + done.stderr).startswith(answer)
    assert done.returncode == (0 if answer.startswith("swanlab") else 2)
