"""DeepSpeed's checkpoint engine while a save goes on; whole saves are in tests/integration and tests/faults."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from deepspeed.runtime.checkpoint_engine import FastCheckpointEngine, TorchCheckpointEngine
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo

from trainyard.checkpoint.deepspeed_engine import in_background
from trainyard.checkpoint.writer import BackgroundWriter


@pytest.mark.parametrize("zipped", [True, False])
def test_states_are_written_by_the_thread_in_deepspeeds_format(tmp_path: Path, zipped: bool) -> None:
    own = TorchCheckpointEngine()
    own.zipfile_serialization = zipped
    engine, writer, gate = SimpleNamespace(checkpoint_engine=own), BackgroundWriter(), threading.Event()
    writer.then(gate.wait)
    state, file = {"w": torch.ones(4), "step": 3}, tmp_path / "states" / "zero.pt"
    with in_background(engine, writer):
        ours = engine.checkpoint_engine
        assert not ours.is_decoupled() and ours.preserves_storage_sharing() is own.preserves_storage_sharing()
        ours.makedirs(str(file.parent), exist_ok=True)
        ours.create(CheckpointCommitInfo("states", str(tmp_path), True))
        ours.save(state_dict=state, path=str(file))
        ours.commit(CheckpointCommitInfo("states", str(tmp_path), True))
        state["w"].zero_()
        assert not file.exists()
    assert engine.checkpoint_engine is own
    gate.set()
    writer.wait()
    assert writer.entries.keys() == {file}
    assert own.load(str(file))["w"].equal(torch.ones(4))
    assert (file.read_bytes()[:2] == b"PK") is zipped


def test_an_engine_of_another_kind_is_left_alone() -> None:
    other = FastCheckpointEngine.__new__(FastCheckpointEngine)
    engine = SimpleNamespace(checkpoint_engine=other)
    with in_background(engine, BackgroundWriter()):
        assert engine.checkpoint_engine is other


def test_an_error_gives_deepspeed_its_engine_back() -> None:
    own = TorchCheckpointEngine()
    engine = SimpleNamespace(checkpoint_engine=own)
    with pytest.raises(RuntimeError, match="lost"), in_background(engine, BackgroundWriter()):
        raise RuntimeError("lost")
    assert engine.checkpoint_engine is own
