"""trainyard prepare and preview: from the command line to the last line of standard output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_env

from trainyard.commands.prepare import parse_share
from trainyard.commands.verbs import main
from trainyard.data.preparation.processes import HEAP, OVERRIDES
from trainyard.data.preparation.request import Share
from trainyard.errors import DataError

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def words(tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name, value in HEAP.items():  # else the command would start this process again with them
        monkeypatch.setenv(name, value)
    sources = f"data.sources=[{{path: '{corpus_file}', format: jsonl}}]"
    return [
        "pretrain",
        sources,
        f"paths.outputs={tmp_path / 'outputs'}",
        "data.block_size=64",
        "tokenizer.vocab_size=400",
    ]


@pytest.mark.parametrize(("text", "share"), [(None, None), ("2/4", Share(2, 4)), ("0/4", Share(0, 4))])
def test_a_share(text: str | None, share: Share | None) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["4", "5/4", "1/0", "-1/4", "a/b", "/"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(DataError, match="must be I/N"):
        parse_share(text)


def test_it_prepares_says_what_was_filled_in_and_previews(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setattr("sys.argv", ["trainyard", "prepare", *words])
    assert main() == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out.splitlines()[-1])
    assert summary["documents"] == 40 and Path(summary["prepared"]).is_dir()
    assert [line for line in printed.err.splitlines() if line.startswith("filled in: ")] == [
        "filled in: data.packing=concat      (conf/data/own_pretrain.yaml, as data.sources is given)",
        "filled in: data.eval_fraction=0.02  (conf/data/own_pretrain.yaml, as data.sources is given)",
        "filled in: tokenizer.path=new       (a BPE of 400 tokens, trained on the data)",
    ]
    again = ["trainyard", "prepare", *words]
    monkeypatch.setenv(OVERRIDES, "[]")  # as a run's controller calls it, which has said so already
    monkeypatch.setattr("sys.argv", again)
    assert main() == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["prepared"] == summary["prepared"]
    assert "filled in" not in printed.err

    monkeypatch.setattr("sys.argv", ["trainyard", "preview", *words, "--json", "--count", "3", "data.max_sequences=1"])
    assert main() == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["sequence"] for row in rows] == [0, 0, 0]
    assert all(len(row["input_ids"]) == 64 for row in rows)


def test_it_starts_itself_again_before_it_says_anything(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    seen: list[dict[str, str]] = []

    def execve(python: str, command: list[str], env: dict[str, str]) -> None:
        seen.append(env)
        sys.exit()

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr("sys.argv", ["trainyard", "prepare", *words[:1], "data.packing=tight"])
    monkeypatch.setenv(OVERRIDES, json.dumps(words[1:]))
    for name in HEAP:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        main()
    (env,) = seen
    assert env[OVERRIDES] == json.dumps(words[1:]) and HEAP.items() <= env.items()
    assert capsys.readouterr() == ("", "")


def test_what_a_parent_hands_over_survives_the_second_start(words: list[str]) -> None:
    env = {name: value for name, value in clean_env(PYTHONPATH=str(ROOT)).items() if name not in HEAP}
    env[OVERRIDES] = json.dumps([*words[1:], "data.packing=tight"])
    command = [sys.executable, "-m", "trainyard", "prepare", words[0]]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: data.packing=tight: must be one of concat, best_fit, padded\n"


def test_data_of_another_account_is_read_where_it_cannot_be_written(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """A read-only mount stands for another account, for root may write everywhere else."""
    outputs = str(tmp_path / "outputs")
    monkeypatch.setattr("sys.argv", ["trainyard", "prepare", *words])
    assert main() == 0
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    bind = [["mount", "--bind", outputs, outputs], ["mount", "-o", "remount,ro,bind", outputs]]
    if any(subprocess.run(command, capture_output=True).returncode for command in bind):
        pytest.skip("mounting is not allowed here")
    try:
        for block in ("64", "32"):  # the plan is there; the plan is made in memory
            monkeypatch.setattr("sys.argv", ["trainyard", "prepare", *words, f"data.block_size={block}"])
            assert main() == 0
            found = json.loads(capsys.readouterr().out.splitlines()[-1])
            assert found["prepared"] == made["prepared"] and found["sequences"] > 0
        monkeypatch.setattr("sys.argv", ["trainyard", "prepare", *words, "tokenizer.vocab_size=401"])
        assert main() == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"error: {outputs}/")
        assert "this account may not write there, and the data is not prepared yet; set paths.outputs to" in said
    finally:
        subprocess.run(["umount", outputs], check=True)


def test_every_mistake_at_once(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setattr("sys.argv", ["trainyard", "prepare", *words, "data.packing=tight", "data.max_sequences=0"])
    assert main() == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: data.max_sequences=0: must be at least 1",
        "error: data.packing=tight: must be one of concat, best_fit, padded",
    ]
