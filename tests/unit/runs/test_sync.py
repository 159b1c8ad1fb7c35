"""What cannot be sent to SwanLab afterwards, and the reason."""

from pathlib import Path

import pytest

from trainyard.errors import DataError
from trainyard.runs.sync import sync
from unit.run_dirs import make_run, the_run


def test_a_live_run_is_not_sent(tmp_path: Path) -> None:
    directory = make_run(tmp_path, state="running")
    assert directory.acquire()
    with pytest.raises(DataError, match=r"pretrain/default: is alive, pid \d+ .*; sync it afterwards"):
        sync(the_run(tmp_path), tmp_path, None)
    directory.release()


def test_a_run_without_metrics_has_nothing_to_send(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    directory.metrics.write_text("")
    with pytest.raises(DataError, match=r"there is nothing to send, .*metrics\.jsonl has no line"):
        sync(the_run(tmp_path), tmp_path, None)
