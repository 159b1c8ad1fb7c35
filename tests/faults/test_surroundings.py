"""What happens around a run: data workers, ports, locks, strange overrides, secrets, the directory itself."""

import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest
from conftest import Finished, Pretrain
from disturb import SLOW, Faults, assert_same_run, leftovers

from trainyard.runconfig import load

SECRET = "sk-0123456789abcdef"
STRANGE = "$(touch pwned) `touch pwned`; touch pwned && 'one' \"two\" 三\\"


@pytest.mark.slow
@pytest.mark.faults(case="16", fault="SIGKILL of a data worker")
def test_a_data_worker_that_dies_is_named_and_the_run_goes_on(faults: Faults, zero2_run: Finished) -> None:
    settings = ["trainer.dataloader_num_workers=2", "trainer.save_steps=5", SLOW]
    live = faults.start("worker-killed", *settings)
    live.wait_for_step(7)
    (victim, *_) = psutil.Process(live.rank(1)).children()
    os.kill(victim.pid, signal.SIGKILL)
    done = live.end()
    assert "DataLoader worker" in done.stderr and "restart 1 of 3" in done.stderr
    assert_same_run(done, zero2_run)
    assert leftovers(live.run) == []


@pytest.mark.faults(case="20", fault="overrides that a shell would run, secrets in the environment and in an override")
def test_overrides_are_taken_as_they_are_and_secrets_stay_secret(pretrain: Pretrain, outputs: Path) -> None:
    quoted = STRANGE.replace("\\", "\\\\").replace("'", "\\'")
    short = ["trainer.max_steps=2", "trainer.save_steps=2", "launch.num_devices=1", "deepspeed=none"]
    done = pretrain(
        "strange", *short, f"tracking.project='{quoted}'", f"data.template_variables.api_key={SECRET}",
        env={"SWANLAB_API_KEY": SECRET, "HF_TOKEN": SECRET},
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert not list(Path().glob("pwned")) and not list(outputs.rglob("pwned"))
    written = [file for file in (*done.run.rglob("*"), *(outputs / "swanlog").rglob("*")) if file.is_file()]
    assert len(written) > 20
    holding = [file for file in written if SECRET.encode() in file.read_bytes()]
    assert holding == []
    assert SECRET not in done.stdout + done.stderr
    refused = pretrain("refused", f"trainer.hub_token={SECRET}")
    assert refused.code == 2 and "trainer.hub_token=***" in refused.stderr and SECRET not in refused.stderr

    assert load(done.run / "config.yaml").tracking.project == STRANGE


@pytest.mark.slow
@pytest.mark.faults(case="22", fault="the run's directory deleted while it runs")
def test_a_directory_that_disappears_ends_the_run_with_its_name(faults: Faults) -> None:
    live = faults.start("vanished", SLOW, "trainer.max_steps=2000", "launch.max_restarts=0")
    live.wait_for_step(3)
    shutil.rmtree(live.run)
    done = live.end()
    assert done.code == 1
    assert str(live.run) in done.stderr.splitlines()[-1] or "FileNotFoundError" in done.stderr.splitlines()[-1]
    assert leftovers(live.run) == []
