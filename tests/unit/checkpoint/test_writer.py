"""Files that a thread writes: the bytes of the moment, in order, errors told."""

import threading
from pathlib import Path

import pytest
import safetensors.torch
import torch

from trainyard.checkpoint.writer import BackgroundWriter


def test_the_bytes_are_those_of_the_moment(tmp_path: Path) -> None:
    """What is saved may change at once; nothing is written before the thread comes to it."""
    writer, gate = BackgroundWriter(), threading.Event()
    writer.then(gate.wait)
    weights = {"w": torch.ones(4)}
    directory = tmp_path / "checkpoint-1"
    directory.mkdir()
    writer.begin()
    writer.save(weights, directory / "optim.pt")
    writer.save(weights, directory / "old.pt", zipped=False)
    writer.write(safetensors.torch.save(weights, {"format": "pt"}), directory / "model.safetensors")
    weights["w"].zero_()
    assert list(directory.iterdir()) == []
    gate.set()
    writer.wait()
    assert {file.name for file in directory.iterdir()} == {"optim.pt", "old.pt", "model.safetensors"}
    assert torch.load(directory / "optim.pt")["w"].equal(torch.ones(4))
    assert torch.load(directory / "old.pt")["w"].equal(torch.ones(4))
    assert [(directory / name).read_bytes()[:2] == b"PK" for name in ("optim.pt", "old.pt")] == [True, False]
    assert safetensors.torch.load_file(directory / "model.safetensors")["w"].equal(torch.ones(4))
    assert {file.name: entry.size for file, entry in writer.entries.items()} == {
        file.name: file.stat().st_size for file in directory.iterdir()
    }
    writer.begin()
    assert writer.entries == {}


def test_what_fails_ends_the_work_and_is_raised(tmp_path: Path) -> None:
    writer = BackgroundWriter()
    writer.save({}, tmp_path / "nowhere" / "x.pt")
    done: list[int] = []
    writer.then(lambda: done.append(1))
    with pytest.raises(FileNotFoundError):
        writer.wait()
    with pytest.raises(FileNotFoundError):
        writer.check()
    assert done == []
