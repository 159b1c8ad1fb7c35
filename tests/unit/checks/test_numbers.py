from pathlib import Path

import pytest

from unit.checking import found, only


def test_values_outside_their_range(tmp_path: Path) -> None:
    wrong = ["data.eval_fraction=2", "trainer.learning_rate=0", "data.block_size=1", "trainer.eval_strategy=stepz"]
    problems = found(tmp_path, *wrong)
    assert len(problems) == len(wrong)
    assert "trainer.eval_strategy=stepz: must be one of no, steps, epoch" in problems


def test_bad_steps_and_spikes(tmp_path: Path) -> None:
    wrong = ["max_bad_steps=0", "on_spike=panic", "spike_deviations=0", "spike_deviations=nan", "spike_window=9"]
    for setting in wrong:
        assert only(tmp_path, f"trainer.{setting}").startswith(f"trainer.{setting}")
    assert found(tmp_path, "trainer.on_spike=rollback", "trainer.spike_window=10", "trainer.max_bad_steps=1") == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.seed=-1", "must be at least 0"),
        ("run.profile_steps=-1", "must be at least 0"),
        ("run.name=" + "x" * 300, "longer than 200 bytes"),
        ("launch.num_devices=0", "must be at least 1"),
        ("model.hidden_size=0", "must be at least 1"),
        ("model.model_type=nope", "transformers has no such architecture"),
        ("trainer.warmup_steps=-5", "must be at least 0"),
        ("trainer.dataloader_prefetch_factor=2", "set trainer.dataloader_num_workers"),
        ("trainer.lr_scheduler_type=cosine_with_min_lr", "min_lr_rate"),
        ("trainer.metric_for_best_model=accuracy", "must be one of None, loss"),
        ("run.resume=/nowhere", "must be auto, never or a checkpoint directory"),
    ],
)
def test_what_a_rank_would_stumble_over(tmp_path: Path, override: str, message: str) -> None:
    assert message in only(tmp_path, override)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.packing=greedy"], "data.packing=greedy: must be one of concat, best_fit, padded"),
        (["data.on_error=ignore"], "data.on_error=ignore: must be one of stop, skip"),
        (["data.max_rejected=1.5"], "data.max_rejected=1.5: a share of the documents"),
        (["data.max_document_mb=0"], "data.max_document_mb=0.0: must be above 0"),
        (["data.sources=[{path: conf, format: text, weight: 0}]"], "sources[0].weight=0.0: must be above 0"),
        (["data.sources=[{path: conf, format: text, epochs: -1}]"], "sources[0].epochs=-1.0: must be above 0"),
        (["data.sources=[{path: conf, format: text, document: page}]"], "must be one of line, paragraph, file"),
        (
            ["data.sources=[{path: conf, format: text, weight: 1}, {path: conf, format: text}]"],
            "data.sources[1].weight: is not set and others are",
        ),
    ],
)
def test_data_settings_that_make_no_sense_are_named(
    tmp_path: Path, in_root: None, overrides: list[str], message: str
) -> None:
    assert message in only(tmp_path, *overrides)


def test_a_trace_needs_steps_after_those_that_settle(tmp_path: Path) -> None:
    assert only(tmp_path, "run.profile_steps=2", "trainer.max_steps=3") == (
        "run.profile_steps=2: a trace begins after 3 steps; set trainer.max_steps=5 or more"
    )
    assert found(tmp_path, "run.profile_steps=2", "trainer.max_steps=4") == []
    assert found(tmp_path, "run.profile_steps=2", "trainer.max_steps=-1") == []
    assert found(tmp_path, "trainer.max_steps=3") == []
