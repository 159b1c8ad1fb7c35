import dataclasses
import json
import math
from pathlib import Path

import pytest

from trainyard.rundir import messages
from trainyard.rundir.directory import RunDir
from trainyard.rundir.messages import Killed, LastWords, Lead, Phase, Progress, RankProcess, Stop


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    (tmp_path / "logs").mkdir()
    return RunDir(tmp_path)


def test_nothing_has_been_said_yet(run: RunDir) -> None:
    assert Progress.read(run) == Progress()
    assert LastWords.read_all(run) == []
    assert list(RankProcess.read_all(run)) == []
    assert Killed.read_all(run) == []
    assert Stop.read(run) is None
    assert Lead.read(run) is None


def test_progress_goes_and_comes_back(run: RunDir) -> None:
    progress = Progress(Phase.TRAINING, step=0, max_steps=20, tokens_seen=0, loss=2.5, final={"loss": 2.5})
    progress.write(run)
    assert Progress.read(run) == progress
    assert json.loads(run.progress.read_text()) == {
        "phase": "training",
        "step": 0,
        "max_steps": 20,
        "tokens_seen": 0,
        "loss": 2.5,
        "final": {"loss": 2.5},
    }


def test_last_words_are_read_in_the_order_of_the_failures(run: RunDir) -> None:
    late = LastWords(0, "RuntimeError: peer is gone", step=4, time=20.0, traceback="...", log="rank-0.log")
    early = LastWords(1, "ValueError: bad", step=4, final=True, time=10.0)
    for words in (late, early):
        words.write(run)
    assert LastWords.read_all(run) == [early, late]
    assert LastWords.of(run, 1) == run.logs / "rank-1.error.json"


def test_last_words_that_are_cut_off_are_passed_over(run: RunDir) -> None:
    LastWords.of(run, 0).write_text('{"rank": 0, "err')
    LastWords.of(run, 1).write_text('{"rank": 1}')
    assert LastWords.read_all(run) == []


def test_a_rank_that_lives_and_one_that_was_killed(run: RunDir) -> None:
    processes = [RankProcess(number, "node-a", 100 + number) for number in (0, 10)]
    for process in processes:
        process.write(run)
    (run.logs / "rank-3.pid").write_text("node-b ")  # cut off
    assert sorted(RankProcess.read_all(run), key=lambda process: process.rank) == processes
    processes[0].remove(run)
    assert list(RankProcess.read_all(run)) == processes[1:]
    for number in (10, 2):
        Killed(number).write(run)
    assert Killed.read_all(run) == [Killed(2), Killed(10)]


def test_a_stop_and_a_lead(run: RunDir) -> None:
    Stop("SIGTERM").write(run)
    assert Stop.read(run) == Stop("SIGTERM")
    lead = Lead("pid 7 on node-a", 2, "checkpoints/checkpoint-5")
    lead.write(run)
    assert Lead.read(run) == lead


def test_a_new_launch_finds_nothing_that_was_said_before(run: RunDir) -> None:
    said = (
        Progress(Phase.DONE), Stop("SIGTERM"), LastWords(0, "x"), RankProcess(0, "a", 1), Killed(1), Lead("pid 7", 1)
    )  # fmt: skip
    for message in said:
        message.write(run)
    (run.logs / "rank-0.log").touch()
    messages.clear(run)
    left = sorted(str(file.relative_to(run.path)) for file in run.path.rglob("*") if file.is_file())
    assert left == ["lead.json", "logs/rank-0.log"]


def test_files_of_the_first_version_are_read(run: RunDir) -> None:
    """As trainyard 0.1 wrote them, with indentation left out."""
    run.progress.write_text(
        '{"phase": "training", "step": 5, "max_steps": 20, "tokens_seen": 2560, "eta_s": null, "loss": 9.1, '
        '"tokens_per_second": null, "asked": "a signal to a rank"}'
    )
    assert Progress.read(run) == Progress("training", 5, 20, 2560, None, 9.1, None, asked="a signal to a rank")
    LastWords.of(run, 1).write_text(
        '{"rank": 1, "step": null, "final": false, "rollback": true, "time": 1.5, "error": "RollbackError: ", '
        '"traceback": "t", "log": "rank-1.log"}'
    )
    assert LastWords.read_all(run) == [LastWords(1, "RollbackError: ", None, False, True, 1.5, "t", "rank-1.log")]
    run.stop.touch()
    assert Stop.read(run) == Stop()
    run.lead.write_text('{"leader": "pid 7 on a", "attempt": 1, "checkpoint": null}')
    assert Lead.read(run) == Lead("pid 7 on a", 1)


def test_keys_of_another_version_are_passed_over(run: RunDir) -> None:
    run.progress.write_text('{"phase": "dreaming", "step": 3, "dream": "electric"}')
    assert Progress.read(run) == Progress("dreaming", step=3)
    run.lead.write_text('{"leader": "pid 7 on a", "attempt": 1, "mood": "good"}')
    assert Lead.read(run) == Lead("pid 7 on a", 1)
    LastWords.of(run, 0).write_text('{"rank": 0, "error": "x", "mood": "bad"}')
    (words,) = LastWords.read_all(run)
    assert words == LastWords(0, "x") and words.time == math.inf


def test_all_phases_are_texts_of_their_own() -> None:
    phases = [value for name, value in vars(Phase).items() if name.isupper()]
    assert len(phases) == len(set(phases)) == 10
    assert all(isinstance(phase, str) for phase in phases)


def test_messages_cannot_be_changed_after_they_were_read() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Progress().step = 3  # type: ignore[misc]


def _no_room(*args: object) -> None:
    raise OSError(28, "No space left on device")


def test_on_a_full_disk_a_file_without_text_says_enough(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "write_json", _no_room)
    monkeypatch.setattr(messages, "write_text", _no_room)
    Stop("SIGTERM").write(run)
    assert Stop.read(run) == Stop()
    LastWords(3, "ValueError: bad").write(run)
    assert LastWords.of(run, 3).read_bytes() == b""
    assert LastWords.read_all(run) == [LastWords(3, messages.NO_WORDS, final=True, log=str(run.logs / "rank-3.log"))]


def test_the_figures_of_the_progress_are_those_that_are_known() -> None:
    assert Progress(Phase.TRAINING, step=0, tokens_seen=0, loss=2.5).figures() == {"step": 0, "tokens_seen": 0}
    done = Progress(Phase.DONE, step=20, max_steps=20, tokens_seen=9, final={"loss": 1.0})
    assert done.figures() == {"step": 20, "max_steps": 20, "tokens_seen": 9, "final": {"loss": 1.0}}
