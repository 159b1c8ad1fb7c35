"""The newest good checkpoint is found, old ones are deleted, and room for the next is judged."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.checkpoint import directory as checkpoint
from trainyard.checkpoint.directory import (
    STATE,
    best_of,
    discard,
    list_checkpoints,
    newest_good,
    newest_whole,
    rotate,
)
from trainyard.checkpoint.manifest import MANIFEST
from unit.checkpoint_dirs import make


def test_the_newest_good_one_is_found_and_the_others_have_a_reason(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40, 100):
        make(tmp_path, step)
    (tmp_path / "checkpoint-100" / MANIFEST).unlink()
    (tmp_path / "checkpoint-40" / "global_step" / "optim.pt").unlink()
    (tmp_path / "checkpoint-30" / "model.safetensors").write_bytes(b"weight!" * 30)
    good, passed_over = newest_good(tmp_path)
    assert good is not None
    assert good.step == 20
    reasons = {verdict.step: verdict.reason for verdict in passed_over}
    assert list(reasons) == [100, 40, 30]
    assert "did not finish" in str(reasons[100])
    assert reasons[40] == "global_step/optim.pt is missing"
    assert "checksum" in str(reasons[30])


@pytest.mark.parametrize(("keep", "left"), [(None, [40, 30, 20, 10]), (2, [40, 30]), (1, [40]), (0, [40])])
def test_rotation_keeps_the_newest(tmp_path: Path, keep: int | None, left: list[int]) -> None:
    for step in (10, 20, 30, 40):
        make(tmp_path, step)
    rotate(tmp_path, keep, tmp_path / "checkpoint-40")
    assert [step for step, _ in list_checkpoints(tmp_path)] == left


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda path: (path / MANIFEST).unlink(),
    "empty manifest": lambda path: (path / MANIFEST).write_text(""),
    "half a manifest": lambda path: (path / MANIFEST).write_text((path / MANIFEST).read_text()[:40]),
    "manifest of no files": lambda path: (path / MANIFEST).write_text("{}"),
    "file gone": lambda path: (path / "model.safetensors").unlink(),
    "file cut off": lambda path: (path / "global_step" / "optim.pt").write_bytes(b"half"),
    "no files at all": lambda path: shutil.rmtree(path / "global_step"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_broken_one_is_never_counted_in_the_place_of_a_good_one(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    for step in (10, 20, 30, 40):
        make(tmp_path, step)
    damage(tmp_path / "checkpoint-30")
    rotate(tmp_path, 2, tmp_path / "checkpoint-40", tmp_path / "checkpoint-10")
    assert [step for step, _ in list_checkpoints(tmp_path)] == [40, 30, 20, 10]
    damage(tmp_path / "checkpoint-40")
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-20"
    rotate(tmp_path, 1, tmp_path / "checkpoint-40")
    assert [step for step, _ in list_checkpoints(tmp_path)] == [40, 30, 20]


def test_the_one_just_written_stays_beside_a_later_one_that_the_run_has_passed_over(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        make(tmp_path, step)
    (tmp_path / "checkpoint-15" / "model.safetensors").write_bytes(b"weight!" * 15)  # of the same size
    make(tmp_path, 12)
    rotate(tmp_path, 1, tmp_path / "checkpoint-12")
    good, passed_over = newest_good(tmp_path)
    assert good is not None and good.step == 12 and [verdict.step for verdict in passed_over] == [15]
    assert [step for step, _ in list_checkpoints(tmp_path)] == [15, 12]


def test_the_best_one_is_read_from_a_checkpoint_wherever_the_run_lies_now(tmp_path: Path) -> None:
    path = make(tmp_path, 10)
    assert best_of(path) is None
    (path / STATE).write_text('{"best_model_checkpoint": "/moved/checkpoints/checkpoint-5"}')
    assert best_of(path) == tmp_path / "checkpoint-5"
    (path / STATE).write_text('{"best_model_checkpoint": null}')
    assert best_of(path) is None


def test_a_deletion_that_is_cut_off_leaves_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path, 5)

    def interrupted(directory: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            discard(path)
    assert newest_good(tmp_path)[0] is None
    discard(path)
    assert not path.exists()
    discard(path)  # nothing there, nothing wrong


def test_room_for_a_checkpoint_is_judged_by_the_last_one(tmp_path: Path) -> None:
    assert checkpoint.required_bytes(tmp_path, trainable=1000) == 20_000
    path = make(tmp_path, 5)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and file.name != MANIFEST)
    assert checkpoint.required_bytes(tmp_path, trainable=1000) == size
    assert checkpoint.lack_of_space(tmp_path, size) is None
    problem = str(checkpoint.lack_of_space(tmp_path, 10**18))
    assert "takes about 1,000,000,000,000.0 MB" in problem and "checkpoint-5 is untouched" in problem


def test_a_file_for_which_there_was_no_room_is_named_with_the_way_on(tmp_path: Path) -> None:
    make(tmp_path / "checkpoints", 5)
    error = OSError(errno.ENOSPC, "full", str(tmp_path / "logs" / "gone" / "rank-0.log"))
    problem = checkpoint.no_space(tmp_path / "checkpoints", error)
    assert problem.startswith(f"{tmp_path}/logs/gone/rank-0.log: there is no room on its disk, ")
    assert problem.endswith("checkpoint-5 is untouched, the same command goes on from there")
    assert checkpoint.no_space(tmp_path / "checkpoints").startswith(f"{tmp_path}: there is no room")
