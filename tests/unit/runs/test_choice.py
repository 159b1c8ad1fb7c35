"""The run that a name means, the metric that compares runs, and their ranking."""

import json
import math
from pathlib import Path

import pytest

from trainyard import files
from trainyard.errors import DataError
from trainyard.rundir.metrics import read_metrics
from trainyard.runs import choice
from trainyard.runs.history import find
from unit.run_dirs import make_run, make_sweep, the_run


def test_a_name_means_a_run_by_its_end_its_stage_or_its_directory(tmp_path: Path) -> None:
    for stage in ("pretrain", "sft"):
        make_run(tmp_path / "out", "default", stage=stage)
    make_run(tmp_path / "out", "alone")
    make_run(tmp_path / "out", "sweeps/lr/alone")
    elsewhere = make_run(tmp_path / "other", "far")
    runs = find(tmp_path / "out")
    assert choice.named(runs, "alone").name == "pretrain/alone"
    assert choice.named(runs, "lr/alone").name == "pretrain/sweeps/lr/alone"
    assert choice.named(runs, "sft/default").name == "sft/default"
    assert choice.named(runs, str(tmp_path / "out" / "sft" / "default")).name == "sft/default"
    assert choice.named(runs, str(elsewhere.path)).name == "pretrain/far"
    with pytest.raises(DataError, match="is one of pretrain/default, sft/default; say which"):
        choice.named(runs, "default")
    with pytest.raises(DataError, match=r"alnoe: there is no such run\. Did you mean pretrain/alone\?"):
        choice.named(runs, "alnoe")


def test_the_best_run_is_the_one_that_leaves_the_best_model(tmp_path: Path) -> None:
    make_run(tmp_path, "good", final=3.0)
    make_run(tmp_path, "better-but-running", state="failed", final=1.0)
    make_run(tmp_path, "broken", final=math.nan)
    went_back = make_run(tmp_path, "went-back", ["trainer.load_best_model_at_end=true"], final=2.0)
    diverged = make_run(tmp_path, "diverged", final=1.5)
    for directory in (went_back, diverged):
        with directory.metrics.open("a") as stream:
            stream.write('{"step": 101, "eval_loss": 9.0}\n')
    names = [run.short for run, _ in choice.ranked(find(tmp_path), "eval_loss", maximize=False)]
    assert names == ["went-back", "good", "diverged"]
    assert choice.ranked(find(tmp_path), "eval_loss", maximize=True)[0][0].short == "diverged"


def test_a_run_is_judged_by_the_model_that_it_leaves(tmp_path: Path) -> None:
    """Evaluations before the first step and at steps without a checkpoint are those of no model that is left."""
    worse = [(110, {"loss": 8.5}), (120, {"loss": 8.5, "eval_loss": 8.4, "save_stall_s": 0.1})]
    best = ["trainer.load_best_model_at_end=true"]
    diverges = make_run(tmp_path, "diverges", best, final=8.3)  # 8.1 before the first step, 8.4 at the others
    unsaved = make_run(tmp_path, "unsaved", best, final=5.0)
    told = make_run(tmp_path, "told", best, final=5.0, model_step=50)
    for directory in (diverges, unsaved, told):
        rows = read_metrics(directory.metrics)
        for row in rows:
            if row["step"] == 100 and directory is unsaved:
                del row["save_stall_s"]
        more = [{"step": step, **values} for step, values in worse]
        directory.metrics.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *more]))
    loss = {step: 5.0 + 3 * math.exp(-step / 15) for step in (50, 100)}
    runs = {name: the_run(tmp_path, name) for name in ("diverges", "unsaved", "told")}
    assert [run.model_step for run in runs.values()] == [50, 50, 50]
    assert runs["diverges"].outcome("eval_loss") == pytest.approx(8.4, abs=0.02)
    for name in ("unsaved", "told"):
        assert runs[name].outcome("eval_loss") == pytest.approx(loss[50] + 0.1)
        assert runs[name].outcome("loss") == pytest.approx(loss[50])
        assert runs[name].last("eval_loss") == 8.4
        assert runs[name].outcome("nothing") is None
    best_of_unsaved = runs["unsaved"].best("eval_loss")
    assert best_of_unsaved is not None and best_of_unsaved.step == 100


def test_a_sweep_is_judged_by_its_own_metric(tmp_path: Path) -> None:
    make_sweep(tmp_path)
    files.write_json(tmp_path / "pretrain/sweeps/rates/results.json", {"metric": "grad_norm", "maximize": True})
    runs = find(tmp_path, sweep="rates")
    assert choice.criterion(runs, None, False) == ("grad_norm", True)
    assert choice.criterion(runs, "loss", False) == ("loss", False)
    make_run(tmp_path, "beside")
    assert choice.criterion(find(tmp_path), None, False) == ("eval_loss", False)


def test_losses_of_other_text_are_not_compared_without_a_word(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", ["data.block_size=128"])
    both = [the_run(tmp_path, name) for name in "ab"]
    assert "the context differs between these runs" in str(choice.incomparable(both))
    assert choice.incomparable(both[:1]) is None
