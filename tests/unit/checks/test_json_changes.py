"""Settings that lie in a DeepSpeed JSON count when a run goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainyard.checkpoint.layout import layout_of
from trainyard.checkpoint.manifest import Manifest, entries
from trainyard.checks import resume
from trainyard.checks.json_changes import json_changes
from trainyard.config import deepspeed, saved
from trainyard.rundir.directory import RunDir
from unit.checking import resolved

ADAMW = {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}}


def written(path: Path, **values: Any) -> str:
    """The override that chooses a JSON with these values beside ours for ZeRO-2."""
    path.write_text(json.dumps(deepspeed.read("zero2") | values))
    return f"deepspeed.config={path}"


def recorded(tmp_path: Path, **values: Any) -> dict[str, Any]:
    """A deepspeed.json as the engine gets it: completed, and each "auto" filled in."""
    written(tmp_path / "begun.json", **values)
    effective = deepspeed.complete(deepspeed.read(str(tmp_path / "begun.json")), on_gpu=False)
    params = effective.get("optimizer", {}).get("params", {})
    params.update({"lr": 0.0015, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1} if params else {})
    return effective | {"zero_allow_untested_optimizer": True, "steps_per_print": float("inf")}


@pytest.mark.parametrize(
    ("begun", "now", "wanted"),
    [
        ({"optimizer": ADAMW}, {"optimizer": ADAMW}, []),
        ({}, {"optimizer": ADAMW}, []),
        ({"optimizer": ADAMW}, {}, []),
        ({"optimizer": ADAMW}, {"optimizer": {**ADAMW, "type": "Adam"}}, [("optimizer.type", "AdamW", "Adam")]),
        ({}, {"optimizer": {"type": "Muon"}}, [("optimizer.type", None, "Muon")]),
        ({"optimizer": ADAMW}, {"optimizer": {"type": "adamw", "params": {"amsgrad": True}}},
         [("optimizer.params.amsgrad", None, True)]),
        ({}, {"scheduler": {"type": "WarmupLR"}}, [("scheduler.type", None, "WarmupLR")]),
        ({}, {"fp16": {"enabled": "auto", "initial_scale_power": 4}}, []),
        ({}, {"prescale_gradients": False, "steps_per_print": 5, "train_batch_size": 8}, []),
        ({}, {"prescale_gradients": True}, [("prescale_gradients", None, True)]),
        ({}, {"zero_optimization": {"stage": 3, "reduce_bucket_size": 5}}, []),
    ],
)  # fmt: skip
def test_what_changes_the_learning_is_a_change(
    tmp_path: Path, begun: dict[str, Any], now: dict[str, Any], wanted: list[tuple[str, Any, Any]]
) -> None:
    before = resolved(tmp_path, written(tmp_path / "a.json", **begun))
    config = resolved(tmp_path, written(tmp_path / "b.json", **now))
    found = list(json_changes(before, recorded(tmp_path, **begun), config))
    defaults = {"optimizer.type": "AdamW", "optimizer.params.amsgrad": False, "prescale_gradients": False}
    expected = [(key, defaults.get(key) if old is None else old, new) for key, old, new in wanted]
    assert found == [(f"deepspeed.config.{key}", old, new) for key, old, new in expected]


def test_a_precision_counts_where_it_is_used(tmp_path: Path) -> None:
    fp16 = written(tmp_path / "b.json", fp16={"enabled": "auto", "initial_scale_power": 4})
    config = resolved(tmp_path, fp16, "trainer.fp16=true")
    before = resolved(tmp_path, "trainer.fp16=true")
    assert list(json_changes(before, recorded(tmp_path), config)) == [
        ("deepspeed.config.fp16.initial_scale_power", 16, 4)
    ]


def test_plain_ddp_has_no_json_and_a_start_without_a_step_no_record(tmp_path: Path) -> None:
    lion = resolved(tmp_path, written(tmp_path / "b.json", optimizer={"type": "Lion"}))
    ddp = resolved(tmp_path, "deepspeed=none")
    assert list(json_changes(ddp, recorded(tmp_path), lion)) == [("deepspeed.config.optimizer.type", "AdamW", "Lion")]
    assert list(json_changes(resolved(tmp_path), {}, lion)) == []
    assert list(json_changes(resolved(tmp_path), recorded(tmp_path), ddp)) == []


def test_a_run_that_goes_on_lists_old_and_new_or_is_allowed_to(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    config = resolved(tmp_path, written(path, optimizer=ADAMW))
    run = RunDir(tmp_path / "out" / "pretrain" / "default")
    place = run.checkpoints / "checkpoint-5"
    place.mkdir(parents=True)
    (place / "model.safetensors").write_text("w")
    layout = layout_of(config)
    Manifest(step=5, world_size=2, zero_stage=2, layout=layout, files=entries(place)).write(place)
    saved.save(config, run.config)
    run.deepspeed.write_text(json.dumps(recorded(tmp_path, optimizer=ADAMW)))
    assert resume.problems(config, run) == []
    same_file = written(path, optimizer={**ADAMW, "type": "Adam"})
    (message,) = (each for each in resume.problems(resolved(tmp_path, same_file), run) if "optimizer.type" in each)
    assert message.startswith(
        "deepspeed.config.optimizer.type: the run has AdamW, this command Adam. Resume with the old value, allow it by "
        "run.allow_changes=[deepspeed.config.optimizer.type], "
    )
    for given in ("deepspeed.config.optimizer.type", "deepspeed.config", "deepspeed"):
        now = resolved(tmp_path, same_file, f"run.allow_changes=[{given}]")
        assert list(resume.unknown_names(now)) == []
        assert not any("optimizer.type: the run has" in each for each in resume.problems(now, run))
        assert [change.name for change in resume.allowed(now, run)] == ["deepspeed.config.optimizer.type"]
