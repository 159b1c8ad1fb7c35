"""The run that a name means, the metric that compares runs, and their ranking."""

import math
from pathlib import Path

import pytest

from trainyard import files
from trainyard.errors import DataError
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
    went_back = the_run(tmp_path, "went-back")
    assert went_back.outcome("loss") == went_back.last("loss")
    assert went_back.outcome("eval_loss") == went_back.values("eval_loss")[-2].value


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
