"""How the ranks meet, and when they refuse to."""

from datetime import timedelta
from typing import Any

import deepspeed
import pytest
import torch

from trainyard.training.process_group import start_process_group


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of every call that would join the ranks."""
    calls: list[Any] = []
    monkeypatch.setattr(deepspeed, "init_distributed", lambda backend, **given: calls.append((backend, given)))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(device))
    return calls


@pytest.mark.parametrize(
    ("sees_gpu", "kind", "message"),
    [
        (False, "cuda", "of kind cuda, but torch .* cannot use it"),
        (True, "cpu", "of kind cpu, but torch .* sees a GPU"),
    ],
)
def test_ranks_do_not_meet_when_torch_and_the_driver_disagree(
    monkeypatch: pytest.MonkeyPatch, met: list[Any], sees_gpu: bool, kind: str, message: str
) -> None:
    monkeypatch.setenv("TRAINYARD_DEVICE", kind)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: sees_gpu)
    with pytest.raises(RuntimeError, match=message):
        start_process_group(60.0)
    assert met == []


@pytest.mark.parametrize(("kind", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_the_backend_is_that_of_the_device(
    monkeypatch: pytest.MonkeyPatch, met: list[Any], kind: str, backend: str
) -> None:
    monkeypatch.setenv("TRAINYARD_DEVICE", kind)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
    start_process_group(60.5)
    given = {"auto_mpi_discovery": False, "timeout": timedelta(seconds=60.5), "verbose": False}
    assert met == [*([3] if kind == "cuda" else []), (backend, given)]
