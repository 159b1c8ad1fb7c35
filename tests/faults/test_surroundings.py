"""Faults in the surroundings of a run: data workers, ports, locks, overrides, secrets, tracker, directory."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from conftest import Finished, Pretrain
from disturb import SLOW, Faults, Live, Warm, assert_same_run, command_line, leftovers, mounted

from trainyard.config.saved import load
from trainyard.machine import build_locks

SECRET = "sk-0123456789abcdef"
FILE_BATON = str(Path(importlib.util.find_spec("torch").submodule_search_locations[0], "utils/file_baton.py"))  # type: ignore[union-attr,index]
STRANGE = "$(touch pwned) `touch pwned`; touch pwned && 'one' \"two\" 三\\"


@pytest.mark.slow
@pytest.mark.faults(case="16", fault="SIGKILL of a data worker")
def test_a_data_worker_that_dies_is_named_and_the_run_goes_on(faults: Faults, zero2_run: Finished) -> None:
    settings = ["trainer.dataloader_num_workers=2", "trainer.save_steps=5", SLOW]
    live = faults.start("worker-killed", *settings)
    live.wait_for_step(7)
    (victim, *_) = psutil.Process(live.rank(1)).children()
    os.kill(victim.pid, signal.SIGKILL)
    done = live.end()
    assert "DataLoader worker" in done.stderr and "restart 1 of 3" in done.stderr
    assert_same_run(done, zero2_run)
    assert leftovers(live.run) == []


SMALL_SHM = "mount -t tmpfs -o size=1m none /dev/shm"


@pytest.mark.slow
@pytest.mark.faults(case="17", fault="/dev/shm full at the start, and in the middle, with data workers")
def test_a_full_shm_is_named_and_batches_do_not_need_it(faults: Faults, zero2_run: Finished) -> None:
    settings = ["trainer.dataloader_num_workers=2", "trainer.eval_on_start=false", "trainer.eval_strategy=no"]
    undisturbed = faults.again("shm-undisturbed", *settings)
    full = mounted(f"{SMALL_SHM}; head -c 2m /dev/zero > /dev/shm/filler || true")
    live = faults.start("shm-full", *settings, inside=full)
    done = live.end()
    assert done.code == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "/dev/shm is full" in last and "docker run --shm-size" in last
    assert leftovers(live.run) == []
    assert_same_run(faults.again("shm-full", *settings), undisturbed)

    filled = faults.start(
        "shm-filled", *settings, inside=mounted(SMALL_SHM), fault="fill 0 7", FAULT_FILL="/dev/shm/filler"
    )
    assert_same_run(filled.end(), undisturbed)


@pytest.mark.slow
@pytest.mark.faults(case="17", fault="the port taken between its choice and its use")
def test_a_port_that_is_taken_meanwhile_costs_a_restart(faults: Faults, zero2_run: Finished) -> None:
    live = faults.start("port-taken")
    live.wait_for(lambda: live.members("deepspeed.launcher.launch"))
    (option,) = [
        word for word in live.members("deepspeed.launcher.launch")[0].cmdline() if word.startswith("--master_port=")
    ]
    with socket.create_server(("", int(option.partition("=")[2]))):
        live.wait_for((live.run / "logs" / "rank-0.error.json").exists)
    done = live.end()
    assert "EADDRINUSE" in done.stderr and "restart 1 of 3" in done.stderr
    assert_same_run(done, zero2_run)
    assert leftovers(live.run) == []


def locked(builds: Path) -> subprocess.Popen[str]:
    """Starts a process that holds the lock of the extension `adam`, as PyTorch's compiler does, and never ends."""
    (builds / "adam").mkdir(parents=True)
    source = f"""
import runpy, time
baton = runpy.run_path({FILE_BATON!r})["FileBaton"]({str(builds / "adam" / "lock")!r})
print(baton.try_acquire(), flush=True)
time.sleep(1000)
"""
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    return process


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.faults(case="17", fault="a compile lock of a living process, and one of a killed process")
def test_a_lock_is_removed_once_nobody_can_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    if shared:
        monkeypatch.setattr(build_locks, "ONE_MACHINE", ())
    builder = locked(tmp_path)
    lock = tmp_path / "adam" / "lock"
    assert list(build_locks.remove_dead(tmp_path)) == [
        f"{lock}: process {builder.pid} is building adam; ranks that need it wait for that"
    ]
    assert lock.exists()
    builder.kill()
    builder.wait()
    (message,) = build_locks.remove_dead(tmp_path)
    assert (("delete it if none builds adam" if shared else "removed; a build of adam was killed") in message) is True
    assert lock.exists() == shared
    assert len(list(build_locks.remove_dead(tmp_path))) == shared


@pytest.mark.slow
@pytest.mark.faults(case="17", fault="a compile lock of a killed build, which a rank would wait for")
def test_a_run_builds_what_a_killed_one_could_not(
    warm: Warm, corpus: Path, zero2_run: Finished, tmp_path: Path
) -> None:
    source, builds = tmp_path / "adam.cpp", tmp_path / "builds"
    source.write_text("int adam() { return 1; }\n")
    builder = locked(builds)
    builder.kill()
    builder.wait()
    done = warm("compiles", corpus, fault="compile 0 3", FAULT_SOURCE=str(source), TORCH_EXTENSIONS_DIR=str(builds))
    assert f"{builds / 'adam' / 'lock'}: removed" in done.stdout
    assert (builds / "adam" / "adam.so").exists()
    assert_same_run(done, zero2_run)


@pytest.mark.faults(case="22", fault="the run's directory on a read-only disk")
def test_a_read_only_directory_is_named_before_the_start(faults: Faults, zero2_run: Finished) -> None:
    run = faults.outputs / "pretrain" / "read-only"
    run.mkdir()
    inside = mounted(f"mount --bind {run} {run}; mount -o remount,ro,bind {run}")
    done = faults.start("read-only", inside=inside).end()
    assert done.code == 2
    assert done.stderr.splitlines() == [f"error: paths.outputs={faults.outputs}: no permission to write in {run}"]
    assert list(run.iterdir()) == []
    assert leftovers(run) == []


@pytest.mark.slow
@pytest.mark.faults(case="21", fault="two commands at once; the lock of a command that was killed")
def test_one_run_directory_has_one_command(faults: Faults, zero2_run: Finished) -> None:
    live = faults.start("twice", SLOW, "trainer.save_steps=5")
    live.wait_for_step(7)
    second = faults.again("twice", SLOW, "trainer.save_steps=5")
    assert second.code == 2
    assert f"the run is alive, pid {live.process.pid} on {socket.gethostname()}" in second.stderr
    family = live.members("")
    live.process.kill()
    live.process.wait()
    psutil.wait_procs(family, timeout=30)
    third = faults.again("twice", SLOW, "trainer.save_steps=5")  # the killed command has left its file .lock
    assert third.status["resumed_from"]
    assert_same_run(third, zero2_run)
    assert leftovers(live.run) == []


def command_lines(live: Live) -> Iterator[str]:
    """The command lines of all processes that a command starts, until it ends.

    Its own is left out, which a new process has until it executes another program.
    """
    command = psutil.Process(live.process.pid)
    while live.process.poll() is None:
        with contextlib.suppress(psutil.Error):
            own = command.cmdline()
            yield from (" ".join(line) for line in map(command_line, live.members("")) if line != own)
        time.sleep(0.01)


@pytest.mark.faults(case="20", fault="overrides that a shell would run, secrets in the environment and in an override")
def test_overrides_are_taken_as_they_are_and_secrets_stay_secret(
    faults: Faults, pretrain: Pretrain, outputs: Path
) -> None:
    quoted = STRANGE.replace("\\", "\\\\").replace("'", "\\'")
    short = ["trainer.max_steps=2", "trainer.save_steps=2", "launch.num_devices=1", "deepspeed=none"]
    strange = [f"tracking.project='{quoted}'", f"data.template_variables.api_key={SECRET}"]
    fresh = "tokenizer.vocab_size=490"  # no other test has prepared this data
    live = faults.start("strange", *short, *strange, fresh, SWANLAB_API_KEY=SECRET, HF_TOKEN=SECRET)
    seen = set(command_lines(live))
    done = live.end()
    assert done.code == 0, done.stderr
    for part in ("start.py trainyard prepare", "bin/deepspeed", "pretrain.train"):
        assert any(part in words for words in seen)
    assert not any(SECRET in words for words in seen), "a process that the command starts shows it to everybody"
    assert not list(Path().glob("pwned")) and not list(outputs.rglob("pwned"))
    written = [file for file in (*done.run.rglob("*"), *(outputs / "swanlog").rglob("*")) if file.is_file()]
    assert len(written) > 20
    holding = [file for file in written if SECRET.encode() in file.read_bytes()]
    assert holding == []
    assert SECRET not in done.stdout + done.stderr
    refused = pretrain("refused", f"trainer.hub_token={SECRET}")
    assert refused.code == 2 and "trainer.hub_token=***" in refused.stderr and SECRET not in refused.stderr

    assert load(done.run / "config.yaml").tracking.project == STRANGE


TRACKER = {
    "tracker-fails 0 start": "could not start: RuntimeError: injected",
    "tracker-fails 0 9": "could not log: RuntimeError: injected",
    "tracker-fails 0 end": "could not finish: RuntimeError: injected",
    "tracker-hangs 0 start": "has not answered for 2 s",
    "tracker-hangs 0 9": "has not answered for 2 s",
    "tracker-hangs 0 end": "has not answered for 2 s",
}


@pytest.mark.parametrize(
    "moment", [pytest.param(each, marks=[] if each == "tracker-hangs 0 9" else pytest.mark.slow) for each in TRACKER]
)
@pytest.mark.faults(case="18", fault="the tracker fails or hangs at the start, in the middle, at the end")
def test_a_tracker_costs_the_run_nothing(warm: Warm, corpus: Path, zero2_run: Finished, moment: str) -> None:
    done = warm(moment.replace(" ", "-"), corpus, fault=moment)
    assert_same_run(done, zero2_run)
    lines = [line for line in done.stdout.splitlines() if "tracking is off" in line]
    assert lines == [f"tracking is off: SwanLab {TRACKER[moment]}"]


@pytest.mark.parametrize(
    "kilobytes", [pytest.param(each, marks=[] if each == 100 else pytest.mark.slow) for each in (4, 40, 100, 300, 2400)]
)
@pytest.mark.faults(case="10", fault="the disk of all outputs full from the first file on, and in a step")
def test_a_disk_that_is_full_anywhere_is_named(
    warm: Warm, corpus: Path, zero2_run: Finished, tmp_path: Path, kilobytes: int
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    size = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(disk)]
    if subprocess.run(size, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        own = [f"paths.outputs={disk}", "trainer.save_steps=5"]
        first = warm("full-disk", corpus, *own)
        subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
        second = warm("full-disk", corpus, *own, fault="fill 0 7", FAULT_FILL=str(disk / "filler"))
        for failed in (first, second):
            assert failed.code == 1 and "restart" not in failed.stderr
            last = failed.stderr.strip().splitlines()[-1]
            assert " are free. Free some, " in last and "the same command goes on from there" in last
        (disk / "filler").unlink()
        done = warm("full-disk", corpus, *own)
        assert_same_run(replace(done, run=disk / "pretrain" / "full-disk"), zero2_run)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.faults(case="22", fault="the run's directory deleted while it runs")
def test_a_directory_that_disappears_ends_the_run_with_its_name(faults: Faults, tmp_path: Path) -> None:
    live = faults.start("vanished", SLOW, "trainer.max_steps=2000", "launch.max_restarts=0")
    live.wait_for_step(3)
    shutil.rmtree(live.run.rename(tmp_path / "gone"))  # at one moment, although the run writes to it
    done = live.end()
    assert done.code == 1
    assert str(live.run) in done.stderr.splitlines()[-1] or "FileNotFoundError" in done.stderr.splitlines()[-1]
    assert leftovers(live.run) == []
