"""Settings that are changed on a run that has checkpoints."""

from pathlib import Path

import pytest
from conftest import Finished, Pretrain
from disturb import Warm


@pytest.mark.faults(case="13", fault="seed, data file, model, learning rate changed on resume")
def test_what_changed_is_listed_old_and_new_and_refused(
    zero2_run: Finished, pretrain: Pretrain, corpus: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(corpus.read_text()[::-1])
    data = f"data.sources=[{{path: '{other}', format: jsonl}}]"
    kept = {name: (zero2_run.run / name).read_bytes() for name in ("config.yaml", "status.json", "metrics.jsonl")}
    changed = ["run.seed=7", data, "model.hidden_size=32", "trainer.learning_rate=1e-4"]
    refused = pretrain(zero2_run.run.name, *changed, "trainer.max_steps=40")
    assert refused.code == 2 and refused.stderr.count("error: ") == 4
    for line in (
        "run.seed: the run has 42, this command 7",
        "data.sources: the run has [{",
        "model.hidden_size: the run has 64, this command 32",
        "trainer.learning_rate: the run has 0.0015, this command 0.0001",
    ):
        assert f"error: {line}" in refused.stderr
    assert {name: (zero2_run.run / name).read_bytes() for name in kept} == kept


@pytest.mark.slow
@pytest.mark.faults(case="13", fault="seed and learning rate changed on resume, as run.allow_changes has it")
def test_what_is_allowed_is_taken_over(warm: Warm, corpus: Path) -> None:
    settings = ["trainer.save_steps=5", "trainer.async_save=false", "launch.max_restarts=0"]
    undisturbed = warm("drift-undisturbed", corpus, *settings)
    assert warm("drift", corpus, *settings, fault="fail 0 11").code == 1
    changed = ["trainer.learning_rate=1e-4", "run.seed=7", "run.allow_changes=[trainer.learning_rate, run.seed]"]
    allowed = warm("drift", corpus, *settings, *changed)
    assert allowed.code == 0, allowed.stderr
    assert "trainer.learning_rate: 0.0015 -> 0.0001, as run.allow_changes has it" in allowed.stdout
    assert "run.seed: 42 -> 7, as run.allow_changes has it" in allowed.stdout
    rates = zip(allowed.series("learning_rate"), undisturbed.series("learning_rate"), strict=True)
    expected = [1.0] * 10 + [1e-4 / 1.5e-3] * 10
    assert [new / old for new, old in rates if old] == pytest.approx(expected[-19:])
    assert allowed.series("loss")[:10] == undisturbed.series("loss")[:10]
