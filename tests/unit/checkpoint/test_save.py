"""Parts of a save; whole saves, and those that are cut off, are in tests/faults/test_checkpoints.py."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.trainer_pt_utils import safe_globals

from trainyard.checkpoint.layout import Layout
from trainyard.checkpoint.manifest import Manifest, verify
from trainyard.checkpoint.save import WRITTEN, Saver
from trainyard.data.batches.loader import BatchLayout
from trainyard.rundir.directory import RunDir
from trainyard.rundir.rank import Rank


def network() -> LlamaForCausalLM:
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=12, tie_word_embeddings=False, **size))


@pytest.fixture
def saver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Saver:
    """Of a run on one rank."""
    monkeypatch.setattr(dist, "barrier", lambda: None)
    run = RunDir(tmp_path)
    run.checkpoints.mkdir()
    (tmp_path / "logs").mkdir()
    rank = Rank(0, 1, run, None)
    batch_layout = BatchLayout(rank=0, world_size=1, micro_batch=2, accumulation=3)
    return Saver(run.checkpoints, rank, batch_layout, keep=1, trainable=100, grace_period_s=60.0, layout=Layout())


def save(saver: Saver, step: int, model: Any, optimizer: Any, schedule: Any, best: Path | None = None) -> Path:
    with saver.saving(step, best) as target:
        saver.save_model(target, model, None)
        saver.save_states(model, optimizer, schedule, None)
        saver.save_randomness()
        assert saver.target == target
    assert saver.target is None
    saver.wait()
    return target


def test_a_checkpoint_of_ddp_has_every_state_and_a_manifest(saver: Saver) -> None:
    model = network()
    optimizer = torch.optim.AdamW([{"params": [p]} for p in reversed(list(model.parameters()))])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    model(input_ids=torch.tensor([[1, 2]]), labels=torch.tensor([[1, 2]])).loss.backward()
    optimizer.step()
    schedule.step()
    drawn = [random.getstate(), np.random.get_state(), torch.get_rng_state()]
    found = save(saver, 5, model, optimizer, schedule)
    assert verify(found) is None
    manifest = Manifest.read(found)
    assert manifest is not None
    facts = (manifest.step, manifest.samples_seen, manifest.world_size, manifest.zero_stage, manifest.layout)
    assert facts == (5, 5 * 6, 1, 0, Layout())
    assert manifest.versions.keys() == {"trainyard", "torch", "transformers"}
    states = {"optimizer.pt", "scheduler.pt", "rng_state.pth", "parameters.json"}
    assert manifest.files.keys() == {"config.json", "generation_config.json", "model.safetensors"} | states
    weights = [state["exp_avg"] for state in optimizer.state_dict()["state"].values()]
    saved = [state["exp_avg"] for state in torch.load(found / "optimizer.pt")["state"].values()]
    assert all(one.equal(other) for one, other in zip(weights, saved, strict=True)) and len(saved) == len(weights) > 5
    assert torch.load(found / "scheduler.pt")["last_epoch"] == 1
    names = json.loads((found / "parameters.json").read_text())["names"]
    assert names == [name for name, _ in reversed(list(model.named_parameters()))]
    with safe_globals():
        states_of_rank = torch.load(found / "rng_state.pth", weights_only=True)
    assert states_of_rank["python"] == drawn[0] and states_of_rank["cpu"].equal(drawn[2])
    assert (states_of_rank["numpy"][1] == drawn[1][1]).all()
    assert LlamaForCausalLM.from_pretrained(found).lm_head.weight.equal(model.lm_head.weight)
    assert saver.stall_s is not None and saver.stall_s > 0


def test_the_older_checkpoint_goes_once_the_newer_one_is_whole(saver: Saver) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    for step in (5, 10):
        save(saver, step, model, optimizer, schedule)
    assert [path.name for path in saver.directory.iterdir()] == ["checkpoint-10"]
    for step in (15, 20):
        save(saver, step, model, optimizer, schedule, best=saver.directory / "checkpoint-10")
    assert {path.name for path in saver.directory.iterdir()} == {"checkpoint-10", "checkpoint-20"}


@pytest.mark.parametrize("lost", ["states.pt", "config.json", "."])
def test_no_manifest_is_written_over_files_that_are_gone(saver: Saver, lost: str) -> None:
    """A file that the thread wrote, one that was there before, the whole directory."""
    saver.batch_layout = replace(saver.batch_layout, world_size=2)  # the thread waits for the list of rank 1
    with saver.saving(5, None) as target:
        target.mkdir(parents=True)
        (target / "config.json").write_text("{}")
        saver.writer.save({"a": 1}, target / "states.pt")
    while not (target / WRITTEN.format(0)).exists():
        saver.check()
    if lost == ".":
        shutil.rmtree(target)
    else:
        (target / lost).unlink()
        (target / WRITTEN.format(1)).write_text("{}")
    with pytest.raises(FileNotFoundError, match="deleted" if lost == "." else f"{lost} is missing"):
        saver.wait()
    assert not target.exists()


def test_a_save_that_fails_leaves_no_files_and_is_raised(saver: Saver) -> None:
    with pytest.raises(RuntimeError, match="lost"), saver.saving(5, None) as target:
        target.mkdir(parents=True)
        (target / "part").touch()
        raise RuntimeError("lost")
    assert not target.exists() and saver.target is None


def test_an_error_of_the_thread_is_raised_at_the_next_look(saver: Saver) -> None:
    with saver.saving(5, None) as target:
        target.mkdir(parents=True)
        saver.writer.save({}, target / "nowhere" / "x.pt")
    with pytest.raises(FileNotFoundError):
        saver.wait()
    with pytest.raises(FileNotFoundError):
        saver.check()
    assert not target.exists()


def test_the_loss_scale_is_written_by_the_thread_and_stands_in_the_manifest(saver: Saver) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    with saver.saving(5, None) as target:
        target.mkdir(parents=True)
        saver.save_scaler(scaler)
        saver.save_scaler(None)  # under DeepSpeed
    saver.wait()
    manifest = Manifest.read(target)
    assert manifest is not None and list(manifest.files) == ["scaler.pt"] and verify(target) is None
    assert target / "scaler.pt" in saver.writer.entries
    assert torch.load(target / "scaler.pt", weights_only=True) == scaler.state_dict()
