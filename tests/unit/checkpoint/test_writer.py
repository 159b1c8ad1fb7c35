"""Files that a thread writes: the bytes of the moment, in order, errors told."""

import threading
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers.modeling_utils as modeling

from trainyard.checkpoint.writer import BackgroundWriter


def test_the_bytes_are_those_of_the_moment_and_only_below_the_directory(tmp_path: Path) -> None:
    """What is saved may change at once; nothing is written before the thread comes to it."""
    writer, gate = BackgroundWriter(), threading.Event()
    writer.then(gate.wait)
    weights = {"w": torch.ones(4)}
    directory = tmp_path / "checkpoint-1"
    directory.mkdir()
    with writer.catching(directory):
        torch.save(weights, directory / "optim.pt")
        torch.save(weights, directory / "training_args.bin")
        modeling.safe_save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        torch.save(weights, tmp_path / "elsewhere.pt")
        weights["w"].zero_()
    assert list(directory.iterdir()) == [] and (tmp_path / "elsewhere.pt").exists()
    gate.set()
    writer.wait()
    assert {file.name for file in directory.iterdir()} == {"optim.pt", "model.safetensors"}
    assert torch.load(directory / "optim.pt")["w"].equal(torch.ones(4))
    assert safetensors.torch.load_file(directory / "model.safetensors")["w"].equal(torch.ones(4))
    assert {file.name: entry.size for file, entry in writer.entries.items()} == {
        file.name: file.stat().st_size for file in directory.iterdir()
    }
    torch.save(weights, directory / "optim.pt")  # no longer caught
    assert torch.load(directory / "optim.pt")["w"].equal(torch.zeros(4))


def test_what_fails_ends_the_work_and_is_raised(tmp_path: Path) -> None:
    writer = BackgroundWriter()
    with writer.catching(tmp_path):
        torch.save({}, tmp_path / "nowhere" / "x.pt")
    done: list[int] = []
    writer.then(lambda: done.append(1))
    with pytest.raises(FileNotFoundError):
        writer.wait()
    with pytest.raises(FileNotFoundError):
        writer.check()
    assert done == []
