"""The embedded default as a new user runs it, to its end. It takes minutes, so it needs -m slow."""

import subprocess

import pytest
from conftest import ROOT, Finished, clean_env


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_loss_of_the_default_falls_below_sixty_percent(tmp_path) -> None:  # type: ignore[no-untyped-def]
    done = subprocess.run(
        ["bash", str(ROOT / "launch" / "pretrain.sh")], cwd=tmp_path, env=clean_env(), capture_output=True, text=True
    )
    run = Finished(done.returncode, done.stdout, done.stderr, 0, tmp_path / "outputs" / "pretrain" / "default")
    assert run.code == 0, done.stdout + done.stderr
    final = run.status["final"]
    assert final["loss"] < 0.6 * final["first_loss"]
    assert final["eval_loss"] < 0.6 * final["first_eval_loss"]
    assert final["eval_perplexity"] < final["first_eval_perplexity"]
