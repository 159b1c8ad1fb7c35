"""What the unit tests of several packages share."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def learned_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run whose model has learned two answers by heart; see unit.learned."""
    from unit.learned import overfit

    directory = tmp_path_factory.mktemp("outputs") / "sft" / "learned"
    overfit(directory)
    return directory


@pytest.fixture(scope="session")
def learned(learned_run: Path) -> Any:
    """The model of that run, loaded."""
    import torch

    from trainyard.inference import load

    return load.load(str(learned_run), device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def adapter(learned_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of random weights on the model of that run."""
    from unit.learned import adapted

    return adapted(learned_run, tmp_path_factory.mktemp("adapter") / "lora")


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`python -m trainyard ...` in this process: verb("generate", ...) gives its exit code."""
    from trainyard import __main__ as entry

    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*words: Any) -> int:
        monkeypatch.setattr(sys, "argv", ["trainyard", *map(str, words)])
        try:
            return entry.main()
        except SystemExit as stopped:  # argparse
            return int(str(stopped.code))

    return call
