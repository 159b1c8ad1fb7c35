"""trainyard checkpoints: what there is, whether it can be trusted, and what may go."""

import json
from pathlib import Path

import pytest

from trainyard.checkpoint.manifest import Manifest, entries
from trainyard.commands.verbs import main
from trainyard.rundir.directory import RunDir

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with checkpoints of the steps 10, 20 and 30; a file of the newest is cut off."""
    run = RunDir(tmp_path / "pretrain" / "mine")
    for step in (10, 20, 30):
        path = run.checkpoints / f"checkpoint-{step}"
        path.mkdir(parents=True)
        (path / "model.safetensors").write_bytes(b"weights" * step)
        Manifest(step=step, samples_seen=8 * step, world_size=2, files=entries(path)).write(path)
    (run.checkpoints / "checkpoint-30" / "model.safetensors").write_bytes(b"w")
    run.config.write_text("stage: pretrain")
    return run


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, run: RunDir) -> "Call":
    return Call(monkeypatch, run)


class Call:
    """`trainyard checkpoints <action> <run> <options>` in this process; its exit code."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, run: RunDir):
        self.monkeypatch, self.run = monkeypatch, run

    def __call__(self, action: str, *options: str, directory: Path | None = None) -> int:
        words = ["trainyard", "checkpoints", action, str(directory or self.run.path), *options]
        self.monkeypatch.setattr("sys.argv", words)
        return main()


def test_list_looks_at_no_content(call: Call, capsys: Printed) -> None:
    assert call("list", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["step"], row["samples_seen"], row["world_size"]) for row in rows] == [
        (30, 240, 2), (20, 160, 2), (10, 80, 2),
    ]  # fmt: skip
    assert [row["problem"] for row in rows] == [None, None, None]


def test_verify_reads_every_byte_and_tells_by_its_exit_code(call: Call, run: RunDir, capsys: Printed) -> None:
    assert call("verify", "--json") == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["problem"] for row in rows] == ["model.safetensors has 1 bytes instead of 210", None, None]
    assert call("prune", "--keep", "2") == 0
    assert call("verify") == 0


def test_prune_keeps_the_newest_good_ones(call: Call, run: RunDir, capsys: Printed) -> None:
    assert call("prune") == 0
    assert capsys.readouterr().out.splitlines() == [
        "deleted checkpoint-30: model.safetensors has 1 bytes instead of 210",
        "deleted checkpoint-10: 1 newer are good",
    ]
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-20"]


def test_prune_keeps_the_best_one_which_the_run_loads_at_its_end(call: Call, run: RunDir, capsys: Printed) -> None:
    newest = run.checkpoints / "checkpoint-20"
    (newest / "trainer_state.json").write_text('{"best_model_checkpoint": "/elsewhere/checkpoint-10"}')
    Manifest(step=20, world_size=2, files=entries(newest)).write(newest)
    assert call("prune") == 0
    assert {path.name for path in run.checkpoints.iterdir()} == {"checkpoint-20", "checkpoint-10"}


def test_mistakes(call: Call, run: RunDir, tmp_path: Path, capsys: Printed) -> None:
    assert call("list", directory=tmp_path) == call("prune", "--keep", "0") == 2
    said = capsys.readouterr().err
    assert "holds no config.yaml" in said and "--keep 0: the last good checkpoint is never deleted" in said
    assert run.acquire()
    try:
        assert call("prune") == 2
    finally:
        run.release()
    assert "the run is alive" in capsys.readouterr().err
    assert len(list(run.checkpoints.iterdir())) == 3
