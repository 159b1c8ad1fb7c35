"""What cannot be sent to SwanLab afterwards, and the reason."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from trainyard.errors import DataError
from trainyard.runs.sync import sync
from trainyard.tracking import swanlab
from unit.run_dirs import make_run, the_run


def test_a_live_run_is_not_sent(tmp_path: Path) -> None:
    directory = make_run(tmp_path, state="running")
    assert directory.acquire()
    with pytest.raises(DataError, match=r"pretrain/default: is alive, pid \d+ .*; sync it afterwards"):
        sync(the_run(tmp_path), tmp_path, None)
    directory.release()


@pytest.mark.parametrize(("mode", "sent"), [("cloud", 4001), ("offline", 4001), ("local", 1001)])
def test_every_line_is_sent_as_far_as_a_local_dashboard_draws_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str, sent: int
) -> None:
    directory = make_run(tmp_path)
    rows = [{"step": step, "loss": 1.0} for step in range(1, 4002)]
    directory.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps: list[int] = []

    class Fake:
        def __init__(self, *_: Any): ...

        def open(self, rows: Iterable[dict[str, Any]], samples: Any) -> None:
            assert not isinstance(rows, list) or len(rows) <= swanlab.DRAWN, "not all lines at once"
            steps.extend(row["step"] for row in rows)

        def close(self) -> None: ...

    monkeypatch.setattr(swanlab, "SwanLabRun", Fake)
    assert sync(the_run(tmp_path), tmp_path, mode) == 0
    assert (len(steps), steps[-1]) == (sent, 4001) and steps == sorted(steps)
    assert "4,001 lines sent" in capsys.readouterr().out


def test_a_run_without_metrics_has_nothing_to_send(tmp_path: Path) -> None:
    directory = make_run(tmp_path)
    directory.metrics.write_text("")
    with pytest.raises(DataError, match=r"there is nothing to send, .*metrics\.jsonl has no line"):
        sync(the_run(tmp_path), tmp_path, None)
