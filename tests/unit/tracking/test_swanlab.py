"""A run as an experiment of SwanLab. A stand-in plays SwanLab in cloud mode, which needs a server."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT, clean_env

from trainyard import __main__ as entry
from trainyard.config.saved import load, save
from trainyard.rundir.directory import RunDir
from trainyard.rundir.metrics import read_metrics
from trainyard.tracking.swanlab import SwanLabRun, chart_name, varied
from unit.run_dirs import make_run


class StandIn(SimpleNamespace):
    """SwanLab's init, log, Text and finish, which note their arguments."""

    def __init__(self) -> None:
        super().__init__(begun=[], logged=[], finished=0)

    def init(self, **settings: Any) -> "StandIn":
        self.begun.append(settings)
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def Text(self, text: str, caption: str) -> str:  # noqa: N802 - its name there
        return text

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def swanlab(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "swanlab", stand_in)
    return stand_in


def opened(run: RunDir, mode: str = "cloud", sweep: str | None = None) -> None:
    config = load(run.config)
    config.tracking.mode, config.run.sweep = mode, sweep
    config.tracking.tags = ["mine"]
    SwanLabRun(config, run, run.path.parent / "swanlog").open(read_metrics(run.metrics), [])


def test_every_start_continues_one_experiment(tmp_path: Path, swanlab: StandIn) -> None:
    run = make_run(tmp_path, "default")
    opened(run)
    opened(run)
    first, second = swanlab.begun
    assert first == second, "the same id and name at every start"
    assert len(first["id"]) == 16 and first["resume"] == "allow" and first["mode"] == "online"
    assert (first["name"], first["job_type"], first["group"], first["tags"]) == ("default", "pretrain", None, ["mine"])

    steps = [step for step, values in swanlab.logged if "train/loss" in values]
    assert steps == 2 * list(range(10, 101, 10)), "SwanLab ignores a step that it already has"
    opened(make_run(tmp_path, "another"))
    assert swanlab.begun[-1]["id"] != first["id"]


def test_a_copied_run_is_another_one(tmp_path: Path, swanlab: StandIn) -> None:
    run = make_run(tmp_path, "default")
    opened(run)
    shutil.copytree(run.path, run.path.with_name("copy"))
    copy = RunDir(run.path.with_name("copy"))
    config = load(copy.config)
    config.run.name = "copy"
    save(config, copy.config)
    opened(copy)
    first, second = swanlab.begun
    assert second["name"] == "copy" and second["id"] != first["id"]


def test_a_point_is_tagged_with_what_varies(tmp_path: Path, swanlab: StandIn) -> None:
    opened(make_run(tmp_path, "sweeps/rates/learning_rate=1e-3,hidden_size=128"), sweep="rates")
    (begun,) = swanlab.begun
    assert begun["group"] == "rates" and begun["name"] == "learning_rate=1e-3,hidden_size=128 of rates"
    assert begun["tags"] == ["mine", "sweep=rates", "learning_rate=1e-3", "hidden_size=128"]
    assert varied("adam_betas=-0.9,0.95-,model.config.x=1-3f2a1b") == [
        "adam_betas=-0.9,0.95-",
        "model.config.x=1-3f2a1b",
    ]


def test_the_experiment_tells_how_the_run_was_started(tmp_path: Path, swanlab: StandIn) -> None:
    run = make_run(tmp_path, commit="abc+changes", overrides=["+model.config.api_key=hf_abc", "deepspeed=zero2"])
    run.deepspeed.write_text('{"zero_optimization": {"stage": 2}}')
    run.example.write_text("<|user|>hi\n⟦hello⟧")
    opened(run)
    shown = swanlab.begun[0]["config"]
    assert shown["started"] == {"command": run.read_status()["command"], "git_commit": "abc+changes"}
    assert "api_key=***" in shown["started"]["command"] and "hf_abc" not in str(shown)
    assert shown["trainer"]["learning_rate"] == load(run.config).trainer.learning_rate  # type: ignore[attr-defined]
    assert shown["deepspeed_json"] == {"zero_optimization": {"stage": 2}}
    assert swanlab.logged[0] == (0, {"samples/learned": "<|user|>hi\n⟦hello⟧"})


def test_charts_stand_in_sections_and_losses_also_over_the_tokens(tmp_path: Path, swanlab: StandIn) -> None:
    names = ["loss", "grad_norm", "eval_loss", "mfu", "save_stall_s", "memory_gib", "data_wait", "tokens_seen", "epoch"]
    assert [chart_name(name) for name in names] == [
        "train/loss", "train/grad_norm", "eval/loss", "speed/mfu", "speed/save_stall_s", "memory/memory_gib",
        "data/data_wait", "data/tokens_seen", "data/epoch",
    ]  # fmt: skip
    run = make_run(tmp_path)
    opened(run)
    by_rank = [values for _, values in swanlab.logged if "system/memory_gib.0" in values]
    assert len(by_rank) == 10 and by_rank[0]["system/memory_gib.1"] == 2.5
    by_tokens = {step: values for step, values in swanlab.logged if "by_tokens/loss" in values}
    rows = {row["tokens_seen"]: row["loss"] for row in read_metrics(run.metrics) if "loss" in row}
    assert {tokens: values["by_tokens/loss"] for tokens, values in by_tokens.items()} == rows and len(rows) == 10


def test_answers_are_shown_at_their_own_step(tmp_path: Path, swanlab: StandIn) -> None:
    rows = [
        {"step": step, "prompt": f"p{i}", "response": "r", "reference": "d", "finished": True}
        for step in (0, 6)
        for i in (1, 2)
    ]
    run = make_run(tmp_path)
    run.samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert entry_main("sync", "default", "--mode", "cloud", "--outputs", str(tmp_path)) == 0
    texts = [(step, len(values["samples/answers"])) for step, values in swanlab.logged if "samples/answers" in values]
    assert texts == [(0, 2), (6, 2)] and swanlab.finished == 1


def entry_main(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["trainyard", "runs", *words])
        return entry.main()


def test_sync_refuses_a_live_run(tmp_path: Path, swanlab: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    assert run.acquire()
    assert entry_main("sync", "default", "--outputs", str(tmp_path)) == 2
    assert "error: pretrain/default: is alive, pid" in capsys.readouterr().err
    run.release()
    run.metrics.write_text("")
    assert entry_main("sync", "default", "--outputs", str(tmp_path)) == 2
    assert "there is nothing to send" in capsys.readouterr().err and not swanlab.begun


def test_sync_names_the_error_of_swanlab(tmp_path: Path, swanlab: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path)

    def fail(**settings: Any) -> None:
        raise ConnectionError("the host is down")

    swanlab.init = fail  # type: ignore[method-assign, assignment]
    assert entry_main("sync", "default", "--outputs", str(tmp_path)) == 1
    expected = "error: pretrain/default: SwanLab could not take it: ConnectionError: the host is down\n"
    assert capsys.readouterr().err == expected


def experiments(outputs: Path) -> list[tuple[str, str]]:
    """The names and directories of the local dashboard."""
    with sqlite3.connect(outputs / "swanlog" / "runs.swanlab") as database:
        return database.execute("SELECT name, run_id FROM experiment ORDER BY name").fetchall()


def test_a_new_start_replaces_the_experiment_of_the_last_one(tmp_path: Path) -> None:
    """With SwanLab itself."""
    run, _ = make_run(tmp_path), make_run(tmp_path, stage="sft")
    command = [sys.executable, "-m", "trainyard", "runs", "sync", "--outputs", str(tmp_path)]

    def sync(*words: str) -> None:
        done = subprocess.run([*command, *words], cwd=ROOT, env=clean_env(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1].startswith(f"{words[0]}: 11 lines sent")

    folder = tmp_path / "swanlog"
    sync("pretrain/default")
    sync("sft/default")
    before = experiments(tmp_path)
    assert [name for name, _ in before] == ["default", "default (2)"]
    mine = json.loads(run.tracking.read_text())["id"]
    half = folder / f"run-20260101_000000-{mine}"  # a start that was killed before the dashboard knew of it
    (half / "debug").mkdir(parents=True)
    sync("pretrain/default")
    after = experiments(tmp_path)
    assert [name for name, _ in after] == ["default", "default (2)"] and after[1] == before[1]
    assert after[0] != before[0] and not (folder / before[0][1]).exists() and not half.exists()
    charts = {path.parent.name for path in (folder / after[0][1] / "logs").glob("*/*.log")}
    assert len(charts) == 11, "every metric of the run"

    for _ in range(2):  # a log for SwanLab to sync replaces the last such log, and no experiment that is shown
        sync("pretrain/default", "--mode", "offline")
    assert experiments(tmp_path) == after
    assert len(list(folder.glob(f"run-*-{mine}"))) == 2


def test_metrics_are_grouped_as_people_read_them() -> None:
    names = ("loss", "eval_perplexity", "mfu", "memory_gib", "something_new")
    assert [chart_name(name) for name in names] == [
        "train/loss",
        "eval/perplexity",
        "speed/mfu",
        "memory/memory_gib",
        "train/something_new",
    ]
