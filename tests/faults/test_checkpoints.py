"""Checkpoints that are damaged, cut off or find a full disk: the run goes on from the newest good one."""

import dataclasses
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Finished, clean_env
from disturb import Faults, Warm, assert_same_run, leftovers

from trainyard.checkpoint.directory import newest_good
from trainyard.checkpoint.manifest import MANIFEST, Manifest, entries, verify

SETTINGS = ["trainer.save_steps=5", "launch.max_restarts=0"]


@pytest.fixture(scope="module")
def broken_off(outputs: Path, corpus: Path, pretrain) -> Path:  # type: ignore[no-untyped-def]
    """A run that failed in step 17, with the checkpoints 5, 10 and 15."""
    faults = Faults(outputs, corpus, pretrain)
    live = faults.start("broken-off", *SETTINGS, fault="fail 0 16")
    assert live.end().code == 1
    return live.run


@pytest.fixture
def copy(broken_off: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of that run, for one test."""
    target = broken_off.with_name(re.sub(r"\W+", "-", request.node.name))
    shutil.copytree(broken_off, target)
    return target


class Payload:
    """Makes a directory when it is unpickled."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.proof),)


def flip_a_bit(checkpoint: Path) -> None:
    """Flips one bit in the optimizer states of rank 1."""
    file = checkpoint / "global_step15" / "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(checkpoint: Path) -> None:
    """Cuts off the last 100 bytes of the weights."""
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def empty(checkpoint: Path) -> None:
    """Leaves an empty directory."""
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def remove(pattern: str) -> Callable[[Path], None]:
    """Deletes the first file that matches a pattern."""
    return lambda checkpoint: next(checkpoint.glob(pattern)).unlink()


def plant_code(checkpoint: Path) -> None:
    """Plants code in a file, and writes a manifest that agrees with it."""
    manifest = Manifest.read(checkpoint)
    assert manifest is not None
    (checkpoint / "rng_state_0.pth").write_bytes(pickle.dumps(Payload(checkpoint.parent.parent / "executed")))
    dataclasses.replace(manifest, files=entries(checkpoint)).write(checkpoint)


def plant_a_shard(checkpoint: Path) -> None:
    """Adds a file with code that the manifest does not name."""
    payload = pickle.dumps(Payload(checkpoint.parent.parent / "executed"))
    (checkpoint / "global_step15" / "zero_pp_rank_2_mp_rank_00_optim_states.pt").write_bytes(payload)


DAMAGES = {
    "empty": (empty, "no manifest.json: the save did not finish"),
    "truncated": (truncate, "model.safetensors has "),
    "flipped": (flip_a_bit, "checksum differs"),
    "no-optimizer": (remove("global_step15/*optim_states.pt"), "is missing"),
    "no-rng": (remove("rng_state_1.pth"), "rng_state_1.pth is missing"),
    "no-latest": (remove("latest"), "latest is missing"),
    "no-manifest": (remove(MANIFEST), "no manifest.json"),
    "code": (plant_code, "rng_state_0.pth would run "),
    "shard": (plant_a_shard, "zero_pp_rank_2_mp_rank_00_optim_states.pt is not in manifest.json"),
}


@pytest.mark.parametrize(
    "damage", [pytest.param(name, marks=[] if name == "flipped" else pytest.mark.slow) for name in DAMAGES]
)
@pytest.mark.faults(
    case="9, 19", fault="newest checkpoint empty, truncated, a bit flipped, files missing, code planted"
)
def test_a_damaged_checkpoint_is_passed_over_with_the_reason(
    faults: Faults, zero2_run: Finished, copy: Path, damage: str
) -> None:
    hurt, reason = DAMAGES[damage]
    hurt(copy / "checkpoints" / "checkpoint-15")
    done = faults.again(copy.name, *SETTINGS)
    assert "checkpoint-15 is passed over: " in done.stdout and reason in done.stdout
    assert done.status["resumed_from"] == [10]
    assert not (copy / "executed").exists()
    assert_same_run(done, zero2_run)


@pytest.mark.faults(case="9", fault="every file of a checkpoint missing, or changed in one byte")
def test_no_file_of_a_checkpoint_can_go_or_change_unseen(broken_off: Path, tmp_path: Path) -> None:
    checkpoint = broken_off / "checkpoints" / "checkpoint-15"
    files = [file.relative_to(checkpoint) for file in checkpoint.rglob("*") if file.is_file()]
    assert len(files) >= 12
    for number, name in enumerate(files):
        for change in ("gone", "changed"):
            target = tmp_path / f"{number}-{change}" / "checkpoint-15"
            shutil.copytree(checkpoint, target)
            content = (target / name).read_bytes()
            (target / name).unlink()
            if change == "changed":
                (target / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            assert verify(target) is not None, f"{name} {change}"


@pytest.mark.slow
@pytest.mark.faults(case="11", fault="save_total_limit=1 beside a newer directory that is broken")
def test_the_last_good_one_stays(faults: Faults, zero2_run: Finished, copy: Path) -> None:
    (copy / "checkpoints" / "checkpoint-15" / MANIFEST).unlink()
    shutil.rmtree(copy / "checkpoints" / "checkpoint-5")
    live = faults.start(copy.name, *SETTINGS, "trainer.save_total_limit=1", fault="fail 1 14")
    assert live.end().code == 1
    good, _ = newest_good(copy / "checkpoints")
    assert good is not None and good.step == 10
    done = faults.again(copy.name, *SETTINGS, "trainer.save_total_limit=1")
    assert_same_run(done, zero2_run)
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["checkpoint-20"]


@pytest.mark.parametrize(
    "moment",
    ["kill-in-write 1 10", *(pytest.param(f"kill-in-{m} 10", marks=pytest.mark.slow) for m in ("save 0", "write 0"))],
)
@pytest.mark.faults(case="7", fault="SIGKILL of a rank in a save, while it is serialized or written")
def test_a_save_that_is_cut_off_was_never_a_checkpoint(faults: Faults, zero2_run: Finished, moment: str) -> None:
    name = moment.replace(" ", "-")
    live = faults.start(name, *SETTINGS, fault=moment)
    done = live.end()
    assert done.code == 1
    assert "no manifest.json" in str(verify(live.run / "checkpoints" / "checkpoint-10"))
    assert leftovers(live.run) == []
    resumed = faults.again(name, *SETTINGS)
    assert "checkpoint-10 is passed over: no manifest.json: the save did not finish" in resumed.stdout
    assert resumed.status["resumed_from"] == [5]
    assert_same_run(resumed, zero2_run)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.faults(case="7", fault="SIGKILL of everything at every file write of a save, of either rank")
def test_everything_killed_at_any_write_of_a_save(warm: Warm, corpus: Path, zero2_run: Finished) -> None:
    """Each start is killed one write later than the start before, until a save is complete."""
    for rank, least in ((0, 15), (1, 4)):
        name = f"killed-at-writes-of-{rank}"
        for number in itertools.count(1):
            done = warm(name, corpus, *SETTINGS, fault=f"kill-at-write {rank} 10", FAULT_WRITE=str(number))
            if number > 1:
                assert "checkpoint-10 is passed over: no manifest.json: the save did not finish" in done.stdout
                assert "resuming from checkpoint-5" in done.stdout
            if done.code == 0:
                break
            assert done.code == -signal.SIGKILL
            good, passed_over = newest_good(done.run / "checkpoints")
            assert good is not None and good.step == 5
            assert [verdict.step for verdict in passed_over] == [10]
        assert number > least, "fewer writes than files"
        assert done.status["resumed_from"] == [5] * (number - 1)
        assert_same_run(done, zero2_run)


@pytest.fixture
def small_disk(outputs: Path) -> Iterator[Path]:
    """The directory of the checkpoints of a run `full`, on a disk of 8 MB."""
    directory = outputs / "pretrain" / "full" / "checkpoints"
    directory.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(directory)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.faults(case="10", fault="the disk full before a save, and in the middle of one")
def test_a_full_disk_is_named_and_the_run_goes_on_once_there_is_room(
    faults: Faults, zero2_run: Finished, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    live = faults.start("full", "trainer.save_steps=5", fault="fill-in-save 0 10", FAULT_FILL=str(filler))
    done = live.end()
    assert done.code == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "a checkpoint takes about " in last and " are free" in last and "checkpoint-5 is untouched" in last
    assert "restart" not in done.stderr
    before = faults.again("full", "trainer.save_steps=5")  # it finds too little room before it writes
    assert before.code == 1 and "a checkpoint takes about " in before.stderr
    assert [path.name for path in small_disk.glob("checkpoint-*")] == ["checkpoint-5"]
    filler.unlink()
    assert_same_run(faults.again("full", "trainer.save_steps=5"), zero2_run)


@pytest.mark.faults(case="9", fault="python -m trainyard checkpoints")
def test_the_verb_tells_good_from_bad_and_never_deletes_the_last_good_one(copy: Path) -> None:
    def verb(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trainyard", "checkpoints", *arguments]
        return subprocess.run(command, env=clean_env(), capture_output=True, text=True)

    truncate(copy / "checkpoints" / "checkpoint-15")
    listed = verb("list", str(copy))
    assert listed.returncode == 0 and "checkpoint-15" in listed.stdout
    verified = verb("verify", str(copy), "--json")
    rows = {row["step"]: row for row in map(json.loads, verified.stdout.splitlines())}
    assert verified.returncode == 1
    assert (
        "model.safetensors has" in rows[15]["problem"] and rows[10]["problem"] is None and rows[10]["world_size"] == 2
    )
    pruned = verb("prune", str(copy))
    assert pruned.returncode == 0
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["checkpoint-10"]
    assert verb("verify", str(copy)).returncode == 0
    assert verb("prune", str(copy), "--keep", "0").returncode == 2
    assert verb("list", str(copy / "nowhere")).returncode == 2
