"""The injected faults have their places in the code, and a fault that does not happen is noticed."""

import inspect
import runpy
from pathlib import Path
from typing import Any

import pytest
from disturb import INJECT, assert_happened


@pytest.fixture
def injected(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of inject/sitecustomize.py, with no fault asked for."""
    monkeypatch.syspath_prepend(str(INJECT))
    monkeypatch.delenv("FAULT", raising=False)
    return runpy.run_path(str(INJECT / "sitecustomize.py"))


def test_a_fault_that_does_not_happen_is_noticed(tmp_path: Path) -> None:
    hits = tmp_path / "hits"
    assert_happened("", hits, "")
    hits.write_text("fail\nfail\n")
    assert_happened("fail 1 7", hits, "")
    with pytest.raises(AssertionError, match=r"\['hang'\] did not happen:\nwhat the run said"):
        assert_happened("fail 1 7;hang 0 2", hits, "what the run said")


def test_the_places_of_the_faults_exist(injected: dict[str, Any]) -> None:
    from trainyard.checkpoint.save import WRITTEN
    from trainyard.tracking import callback
    from trainyard.training import trainer

    assert injected["TRAINER"] == trainer.__name__
    assert callback.PATIENCE_S > 2
    methods = {method for method, _ in injected["FAULTS"].values()} | {"_maybe_log_save_evaluate"}
    assert len(methods) >= 5 and all(callable(getattr(trainer.Trainer, method)) for method in methods)
    assert WRITTEN.format("{rank}") in inspect.getsource(injected["kill_in_write"])
