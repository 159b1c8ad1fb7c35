"""The pages of docs/reference/ leave nothing out, and each page of docs/how-to/ begins with a command."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

from trainyard import errors
from trainyard.commands.verbs import VERBS
from trainyard.rundir.directory import RunDir
from trainyard.tracking import swanlab

HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))


def reference(name: str) -> str:
    return (ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8")


def test_every_file_of_a_run_directory_is_told() -> None:
    run = Path("run")
    files = [path for path in vars(RunDir(run)).values() if isinstance(path, Path) and path != run]
    assert len(files) > 15
    page = reference("run-directory")
    assert [file.name for file in files if file.name not in page] == []


def test_every_metric_is_told_with_its_section() -> None:
    page = reference("metrics")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", page, re.M))
    assert swanlab.METRICS.items() <= rows.items()
    assert {section for told in rows.values() for section in told.split(", ")} == set(swanlab.SECTIONS) - {"samples"}


def test_every_exit_code_is_told() -> None:
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", reference("exit-codes"), re.M)]
    assert sorted(codes) == sorted([errors.FINISHED, errors.FAILED, errors.WRONG, errors.STOPPED])


def test_every_verb_script_and_benchmark_is_told() -> None:
    page = reference("commands")
    assert [verb for verb in VERBS if f"`python -m trainyard {verb} " not in page] == []
    scripts = [path for path in (ROOT / "launch").iterdir() if path.name != "env.sh"]
    benchmarks = list((ROOT / "benchmarks").glob("*.py"))
    named = [path for path in [*scripts, *benchmarks] if f"{path.parent.name}/{path.name}" in page]
    assert len(scripts) >= 5 and len(named) >= len(scripts) + 6


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_it_begins_with_a_command(page: Path) -> None:
    title, empty, fence, command, *_ = page.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ") and not empty and fence == "```bash"
    assert re.match(r"(bash|python|sbatch) ", command)


def test_the_pages_are_there() -> None:
    wanted = "conversations debug export lora own-text resume several-nodes slurm sweeps tracking"
    assert [page.stem for page in HOW_TO] == wanted.split()
