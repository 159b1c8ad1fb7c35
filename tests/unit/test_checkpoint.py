from pathlib import Path

import pytest

from trainyard.checkpoint import MANIFEST, discard, list_checkpoints, newest_good, rotate, verify, write_manifest


def make(directory: Path, step: int) -> Path:
    path = directory / f"checkpoint-{step}"
    (path / "global_step").mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights" * step)
    (path / "global_step" / "optim.pt").write_bytes(b"moments" * step)
    write_manifest(path, step=step, world_size=2)
    return path


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


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert newest_good(tmp_path / "nothing") == (None, [])
    assert verify(tmp_path / "nothing") == "no such directory"


def test_truncation_is_told_by_size(tmp_path: Path) -> None:
    path = make(tmp_path, 5)
    assert verify(path) is None
    (path / "model.safetensors").write_bytes(b"w")
    assert verify(path) == "model.safetensors has 1 bytes instead of 35"


@pytest.mark.parametrize(("keep", "left"), [(None, [40, 30, 20, 10]), (2, [40, 30]), (1, [40]), (0, [40])])
def test_rotation_keeps_the_newest(tmp_path: Path, keep: int | None, left: list[int]) -> None:
    for step in (10, 20, 30, 40):
        make(tmp_path, step)
    rotate(tmp_path, keep)
    assert [step for step, _ in list_checkpoints(tmp_path)] == left


def test_rotation_spares_the_protected_and_never_counts_a_broken_one(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        make(tmp_path, step)
    (tmp_path / "checkpoint-30" / MANIFEST).unlink()
    rotate(tmp_path, 1, protect=[tmp_path / "checkpoint-10"])
    assert [step for step, _ in list_checkpoints(tmp_path)] == [30, 20, 10]
    rotate(tmp_path, 1)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [30, 20]


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
