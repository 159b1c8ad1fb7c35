"""Lists the checkpoints of a run, verifies every byte of them, or deletes the bad and the old ones."""

import argparse
import json
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainyard.checkpoint.directory import Verdict, best_of, discard, list_checkpoints
from trainyard.checkpoint.manifest import Manifest, unfinished, verify
from trainyard.errors import DataError
from trainyard.rundir.directory import RunDir


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "verify", "prune"))
    parser.add_argument("directory", metavar="RUN", help="the directory of a run")
    parser.add_argument("--keep", type=int, default=1, help="prune: good checkpoints that stay (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON object per checkpoint, on standard output")


def run(arguments: argparse.Namespace) -> int:
    """Returns exit code 1 when `verify` finds a checkpoint that cannot be used.

    Raises:
        DataError: the directory is no run, or the run is alive and `prune` would delete its checkpoints.
    """
    run_dir = RunDir(Path(arguments.directory).expanduser())
    if not run_dir.config.is_file():
        raise DataError(f"{arguments.directory}: holds no config.yaml, so it is no run; give <outputs>/<stage>/<name>")
    if arguments.keep < 1:
        raise DataError(f"--keep {arguments.keep}: the last good checkpoint is never deleted; give 1 or more")
    if arguments.action == "prune":
        return _prune(run_dir, arguments.keep)
    checks = arguments.action == "verify"
    verdicts = [
        Verdict(path, step, verify(path) if checks else unfinished(path))
        for step, path in list_checkpoints(run_dir.checkpoints)
    ]
    if arguments.json:
        for verdict in verdicts:
            print(json.dumps(_described(verdict)))
    else:
        _show(verdicts, checked=checks)
    return int(checks and any(verdict.reason for verdict in verdicts))


def _described(verdict: Verdict) -> dict[str, object]:
    manifest = Manifest.read(verdict.path) or Manifest()
    size = sum(file.stat().st_size for file in verdict.path.rglob("*") if file.is_file())
    return {
        "checkpoint": verdict.path.name,
        "step": verdict.step,
        "bytes": size,
        "samples_seen": manifest.samples_seen,
        "world_size": manifest.world_size,
        "zero_stage": manifest.zero_stage,
        "problem": verdict.reason,
    }


def _show(verdicts: list[Verdict], *, checked: bool) -> None:
    screen = Console(highlight=False, soft_wrap=True)
    if not verdicts:
        screen.print("there are no checkpoints")
        return
    table = Table("checkpoint", "samples", "ranks", "MB", "saved", "verified" if checked else "state")
    for verdict in verdicts:
        facts = _described(verdict)
        saved = time.strftime("%Y-%m-%d %H:%M", time.localtime(verdict.path.stat().st_mtime))
        size = int(str(facts["bytes"])) / 1e6
        good = "every file is as it was written" if checked else "whole"
        cells = (facts["samples_seen"] or "", facts["world_size"] or "", f"{size:,.1f}", saved, verdict.reason or good)
        table.add_row(verdict.path.name, *map(str, cells))
    screen.print(table)


def _prune(run_dir: RunDir, keep: int) -> int:
    """Deletes what cannot be used, and good checkpoints beyond the newest `keep` but the one of the best evaluation."""
    if not run_dir.acquire():
        raise DataError(f"{run_dir.path}: the run is alive, {run_dir.holder()}; stop it first")
    try:
        good, best = 0, None
        for step, path in list_checkpoints(run_dir.checkpoints):
            reason = verify(path)
            good += reason is None
            if reason is None and good == 1:
                best = best_of(path)
            if reason is None and (good <= keep or path == best):
                continue
            discard(path)
            print(f"deleted checkpoint-{step}: {reason or f'{keep} newer are good'}")
        if not good:
            print("no good checkpoint is there")
    finally:
        run_dir.release()
    return 0
