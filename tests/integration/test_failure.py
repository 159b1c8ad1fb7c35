"""A run that breaks: the rank that failed and its error are named, and no process is left."""

import psutil
from conftest import Finished, Pretrain


def test_the_rank_that_failed_shows_its_own_error_last(pretrain: Pretrain, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Only rank 1 cannot import a module that every rank needs."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif os.environ.get('RANK') == '1': sys.modules['torchdata'] = None\n"
    )
    done = pretrain("broken", env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("rank 1: ModuleNotFoundError: ")
    assert "torchdata" in last
    assert len(done.stderr.splitlines()) < 40
    assert done.status["state"] == "failed"
    assert done.status["exit_code"] == 1
    alive = [p.pid for p in psutil.process_iter(["cmdline"]) if str(done.run) in " ".join(p.info["cmdline"] or [])]
    assert alive == []


def test_a_tracker_that_fails_costs_the_run_nothing(pretrain: Pretrain, zero2_run: Finished, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "swanlab.py").write_text("def init(**settings): raise ConnectionError('the dashboard is down')\n")
    done = pretrain("untracked", env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 0, done.stderr
    assert "tracking is off: SwanLab could not start: ConnectionError: the dashboard is down" in done.stdout
    assert done.stdout.count("tracking is off") == 1
    assert done.series("loss") == zero2_run.series("loss")
