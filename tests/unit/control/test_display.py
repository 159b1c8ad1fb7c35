from pathlib import Path

import pytest

from trainyard.control import display
from trainyard.control.display import Display, describe
from trainyard.rundir.messages import Phase, Progress


def test_a_progress_in_words() -> None:
    progress = Progress(Phase.TRAINING, step=5, max_steps=20, eta_s=3723.0, loss=3.2141, tokens_per_second=12345.0)
    assert describe(progress) == "loss 3.214  12,345 tok/s  eta 1:02:03"
    assert describe(Progress(Phase.SAVING, step=5)) == "saving a checkpoint"
    assert describe(Progress()) == ""


def test_lines_of_rank_0_are_shown_once_they_are_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "console.log"
    log.write_text("of an earlier launch\n")
    with Display(log) as shown:
        with log.open("a") as stream:
            stream.write("[bold]one[/bold]\ntw")
            stream.flush()
            shown.update(Progress())
            assert capsys.readouterr().out == "[bold]one[/bold]\n"
            stream.write("o\n")
        shown.update(Progress())
        assert capsys.readouterr().out == "two\n"


def test_without_a_terminal_a_new_step_is_shown_now_and_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "PLAIN_INTERVAL_S", -1.0)
    with Display(tmp_path / "console.log") as shown:
        for step in (3, 3, 4):
            shown.update(Progress(Phase.TRAINING, step=step, max_steps=20, loss=2.0))
    assert capsys.readouterr().out == "step 3/20  loss 2.000\nstep 4/20  loss 2.000\n"


def test_the_display_of_another_node_shows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Display(None) as shown:
        shown.update(Progress(Phase.TRAINING, step=3, max_steps=20))
    assert capsys.readouterr().out == ""
