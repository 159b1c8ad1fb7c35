"""The installed wheel, far from any checkout: it brings its configs, and its command works in an empty folder."""

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, clean_env, make_documents


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout. The build makes an environment of its own with hatchling, from a package registry."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(build, env=clean_env(), capture_output=True, text=True)
    if done.returncode and "hatchling" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("no package registry has hatchling, which builds the wheel")
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run(install, env=clean_env(), check=True)
    return folder


def call(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder, with the installed wheel and no checkout on Python's path."""
    env = clean_env(PYTHONPATH=str(installed))
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)


def test_it_holds_every_file_that_the_code_opens(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    if not tracked:
        pytest.skip("not a git checkout")
    shipped = [name for name in tracked if name.startswith(("conf/", "ds_configs/", "launch/"))]
    packages = [name for name in tracked if name.startswith(("trainyard/", "pretrain/", "sft/"))]
    assert len(shipped) > 45 and len(packages) > 150
    assert {f"trainyard/_shipped/{name}" for name in shipped} | set(packages) <= held
    assert any(name.endswith(".jinja") for name in packages)
    assert not any(name.startswith(("tests/", "benchmarks/", "docs/")) or "local.yaml" in name for name in held)


@pytest.mark.parametrize("as_module", [False, True])
def test_help(installed: Path, tmp_path: Path, as_module: bool) -> None:
    start = [sys.executable, "-m", "trainyard"] if as_module else [sys.executable, str(installed / "bin" / "trainyard")]
    done = call(installed, tmp_path, *start, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: {'python -m ' * as_module}trainyard" in done.stdout


def test_a_stage_composes_its_config(installed: Path, tmp_path: Path) -> None:
    start = [sys.executable, str(installed / "bin" / "trainyard"), "pretrain"]
    done = call(installed, tmp_path, *start, "--cfg", "job", "deepspeed=zero3", "experiment=llama_8b_scratch")
    assert done.returncode == 0, done.stderr
    assert "hidden_size: 4096" in done.stdout
    assert "A group:    trainyard pretrain deepspeed=zero3" in call(installed, tmp_path, *start, "--help").stdout
    assert not list(tmp_path.iterdir())


def test_a_mistake_is_answered_at_once(installed: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    start = [sys.executable, str(installed / "bin" / "trainyard")]
    done = call(installed, tmp_path, *start, "sft", "trainer.lerning_rate=1", "deepspeed=zero9")
    assert done.returncode == 2
    assert "Did you mean trainer.learning_rate?" in done.stderr
    assert "there is no conf/deepspeed/zero9.yaml. Did you mean zero" in done.stderr
    assert time.monotonic() - started < 30  # 2 s on an idle machine
    none = call(installed, tmp_path, *start, "runs", "list")
    assert "start one with: trainyard pretrain" in none.stdout


def test_data_is_prepared(installed: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": each}) + "\n" for each in make_documents(40)))
    start = [sys.executable, str(installed / "bin" / "trainyard"), "prepare", "pretrain"]
    sources = f"data.sources=[{{path: {text}, format: jsonl}}]"
    done = call(installed, tmp_path, *start, sources, "data.block_size=64", "tokenizer.vocab_size=512")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["documents"] == 40 and Path(summary["prepared"]).is_relative_to(tmp_path / "outputs" / "prepared")
