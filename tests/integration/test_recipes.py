"""The commands of docs/recipes.md, run as they stand, with a few settings added that make them short."""

import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_env, make_documents

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| [^|]+ \| `(bash launch/(?:pretrain|sft)\.sh[^`]*)` \|$", PAGE, re.M)
SHORT = (
    "trainer.max_steps=2 trainer.eval_steps=2 trainer.save_steps=2 trainer.eval_on_start=false data.eval_fraction=0.005"
)
EXPERIMENTS = [command for command in TABLE if "experiment=" in command]
OPTIONS = [command for command in TABLE if " --" in command]
ELSEWHERE = ["deepspeed=zero3", "deepspeed=none", "launch.num_devices=1"]
"""Overrides of recipes that test_equivalence.py runs in every combination."""
ELSEWHERE += ["run.resume=never", "run.name=first-try", "tracking=none", "trainer.gradient_checkpointing=true"]
"""Overrides of recipes that test_run.py, test_input.py and others run."""
RECIPES = [c for c in TABLE if c not in EXPERIMENTS + OPTIONS and c.split()[-1] not in ELSEWHERE]


def run(command: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of the page in a folder, with further overrides."""
    words = [str(ROOT / word) if word.startswith("launch/") else word for word in shlex.split(command)]
    return subprocess.run([*words, *more], cwd=folder, env=clean_env(), capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a default run, a corpus, a tokenizer and a DeepSpeed JSON at the paths of the recipes."""
    place = tmp_path_factory.mktemp("user")
    first = run("bash launch/pretrain.sh run.name=default", place, *SHORT.split())
    assert first.returncode == 0, first.stdout + first.stderr
    (place / "corpus").mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in make_documents(200))
    (place / "corpus" / "part.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (place / "notes.txt").write_text("\n\n".join(make_documents(200, seed=1)))
    turns = [{"role": "user", "content": "say it"}, {"role": "assistant", "content": "it"}]
    (place / "chats.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 400)
    (place / "path" / "to").mkdir(parents=True)
    (place / "path" / "to" / "tokenizer").symlink_to(place / "outputs" / "pretrain" / "default" / "model")
    (place / "ds_configs").symlink_to(ROOT / "ds_configs")
    return place


def test_the_page_has_all_recipes() -> None:
    assert len(EXPERIMENTS) == len(list((ROOT / "conf" / "experiment").glob("*.yaml")))
    assert len(OPTIONS) == 2
    assert len(RECIPES) >= 11


@pytest.mark.parametrize("command", RECIPES)
def test_a_recipe_trains_as_it_stands(command: str, folder: Path) -> None:
    ranks = [] if "global_batch" in command else ["launch.num_devices=1", "trainer.global_batch_size=8"]
    ranks += [] if "block_size" in command else ["data.block_size=256"]
    tracking = ["run.name=untracked"] if "tracking" in command else ["tracking=none"]
    done = run(command, folder, *SHORT.split(), *ranks, *tracking)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 steps = " in done.stdout  # the run was trained now, and not found finished
    assert "finished, 2 steps" in done.stdout


@pytest.mark.parametrize("command", [*OPTIONS, *(f"{command} --cfg job" for command in EXPERIMENTS)])
def test_commands_that_start_nothing(command: str, folder: Path) -> None:
    done = run(command, folder)
    assert done.returncode == 0, done.stderr
    assert "block_size: " in done.stdout


def test_experiments_get_as_far_as_the_missing_corpus(folder: Path) -> None:
    done = run(EXPERIMENTS[0], folder)
    assert done.returncode == 2
    assert "mobvoi_seq_monkey_general_open_corpus.jsonl: No such file" in done.stderr


def test_prepare_ends_with_one_line_of_json(folder: Path) -> None:
    command, share = re.findall(r"`python (-m trainyard prepare [^`]+)`", PAGE)
    assert share == f"{command} --shard 2/4"  # test_data.py runs shares
    done = run(f"{sys.executable} {command}", folder)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    wanted = {"prepared", "documents", "tokens", "sequences", "fill", "rejected", "tokenizer_backend", "seconds"}
    assert wanted | {"mb_per_s"} <= set(summary)
    assert summary["sequences"] * 512 <= summary["tokens"]


def test_runs_are_listed_shown_compared_ranked_and_watched(folder: Path) -> None:
    commands = re.findall(r"^\| [^|]+ \| `python (-m trainyard runs [^`]+)` \|$", PAGE, re.M)
    assert [command.split()[3] for command in commands] == ["list", "show", "compare", "best", "watch", "sync"]
    second = folder / "outputs" / "pretrain" / "first-try"
    shutil.copytree(folder / "outputs" / "pretrain" / "default", second)
    for command in commands:
        done = run(f"{sys.executable} {command}", folder, *(["--once"] if "watch" in command else []))
        assert done.returncode == 0, done.stderr
        if "best" in command:
            (again,) = (line for line in done.stdout.splitlines() if line.startswith("bash launch/pretrain.sh"))
        else:
            assert "default" in done.stdout and ("finished" in done.stdout or "sync" in command)
    assert (folder / "outputs" / "compare" / "pretrain-default+pretrain-first-try" / "index.html").is_file()
    assert set(SHORT.split()) <= set(shlex.split(again))
    shutil.rmtree(second)
