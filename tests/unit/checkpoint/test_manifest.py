import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from trainyard.checkpoint import directory as checkpoint
from trainyard.checkpoint.directory import discard, list_checkpoints, newest_good, rotate
from trainyard.checkpoint.manifest import MANIFEST, Manifest, entries, verify
from trainyard.checkpoint.pickles import foreign


def make(directory: Path, step: int) -> Path:
    path = directory / f"checkpoint-{step}"
    (path / "global_step").mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights" * step)
    (path / "global_step" / "optim.pt").write_bytes(pickle.dumps({"moments": [0.5] * step}))
    Manifest(step=step, world_size=2, files=entries(path)).write(path)
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


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain", "nested"])
def test_a_file_that_would_run_code_is_refused_and_not_loaded(tmp_path: Path, form: str) -> None:
    """Even when its checksum is right: whoever planted it could write the manifest too."""
    path, payload = make(tmp_path, 5), Payload(tmp_path / "executed")
    file = path / "rng_state_0.pth"
    if form == "plain":
        file.write_bytes(pickle.dumps(payload, protocol=0))
    elif form == "nested":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"state": [1, (2, payload)]}, protocol=5))
    else:
        torch.save({"state": payload}, file, _use_new_zipfile_serialization=form == "zip")
    Manifest(step=5, files=entries(path)).write(path)
    assert "rng_state_0.pth would run " in str(verify(path)) and "mkdir" in str(verify(path))
    assert newest_good(tmp_path)[0] is None
    assert not payload.proof.exists()


def test_a_name_that_is_computed_is_no_way_in(tmp_path: Path) -> None:
    """STACK_GLOBAL with a module's name that the memo brings: what it stands for is known, or the file is refused."""
    file = tmp_path / "x.pkl"
    file.write_bytes(b"\x80\x04\x8c\x02os\x94\x8c\x05mkdir\x94h\x00h\x01\x93\x8c\x01x\x85R.")
    assert foreign(file) == "os.mkdir"
    file.write_bytes(b"not a pickle")
    with pytest.raises(ValueError, match="cannot be read"):
        foreign(file)


def test_what_pytorch_and_numpy_save_is_no_code(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    random = {"numpy": np.random.get_state(), "cpu": torch.random.get_rng_state(), "python": (3, (1, 2), None)}
    for number, state in enumerate([optimizer.state_dict(), random, {"parameter": parameter, "size": torch.Size([3])}]):
        torch.save(state, tmp_path / f"{number}.pt")
        assert foreign(tmp_path / f"{number}.pt") is None


def test_room_for_a_checkpoint_is_judged_by_the_last_one(tmp_path: Path) -> None:
    assert checkpoint.required_bytes(tmp_path, trainable=1000) == 20_000
    path = make(tmp_path, 5)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and file.name != MANIFEST)
    assert checkpoint.required_bytes(tmp_path, trainable=1000) == size
    assert checkpoint.lack_of_space(tmp_path, size) is None
    problem = str(checkpoint.lack_of_space(tmp_path, 10**18))
    assert "takes about 1,000,000,000,000.0 MB" in problem and "checkpoint-5 is untouched" in problem
