"""Checkpoint directories: the manifest that makes one whole, finding the newest good one, deleting old ones.

Needs no torch, so the controller chooses what to resume from before a GPU is claimed.
"""

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainyard.checkpoint.manifest import MANIFEST, Manifest, verify

_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Verdict:
    """One checkpoint directory; `reason` tells why it cannot be used and is None for a good one."""

    path: Path
    step: int
    reason: str | None


def required_bytes(directory: Path, trainable: int) -> int:
    """About what the next checkpoint takes: as much as the newest, or 20 bytes for each trainable parameter.

    These are the weights for transformers and for DeepSpeed, a float32 copy and two moments of AdamW.
    """
    newest = newest_whole(directory)
    manifest = Manifest.read(newest) if newest else None
    return sum(entry.size for entry in manifest.files.values()) if manifest else 20 * trainable


def lack_of_space(directory: Path, needed: int, what: str = "a checkpoint") -> str | None:
    """A message when the disk of the checkpoints has not enough room for one more, or for what is made of one."""
    free = shutil.disk_usage(directory).free
    if free >= needed:
        return None
    last = newest_whole(directory)
    return (
        f"{directory}: {what} takes about {needed / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free. Free some, "
        f"keep fewer with trainer.save_total_limit, or set paths.outputs to another disk; "
        f"{f'{last.name} is untouched' if last else 'there is no checkpoint yet'}, the same command goes on from there"
    )


def list_checkpoints(directory: Path) -> list[tuple[int, Path]]:
    """(step, path) of every checkpoint-<step> directory, newest first, good or not."""
    if not directory.is_dir():
        return []
    found = ((step_of(path), path) for path in directory.iterdir() if path.is_dir())
    return sorted(((step, path) for step, path in found if step is not None), reverse=True)


def step_of(checkpoint: Path) -> int | None:
    """The step in a directory's name, None when it is not named checkpoint-<step>."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else None


def newest_whole(directory: Path) -> Path | None:
    """The newest checkpoint that has a manifest, its files not verified."""
    return next((path for _, path in list_checkpoints(directory) if (path / MANIFEST).is_file()), None)


def newest_good(directory: Path) -> tuple[Verdict | None, list[Verdict]]:
    """The newest checkpoint that verifies, and those that were passed over, each with the reason."""
    passed_over: list[Verdict] = []
    for step, path in list_checkpoints(directory):
        verdict = Verdict(path, step, verify(path))
        if verdict.reason is None:
            return verdict, passed_over
        passed_over.append(verdict)
    return None, passed_over


def rotate(directory: Path, keep: int | None, protect: Iterable[Path] = ()) -> None:
    """Deletes whole checkpoints beyond the newest `keep` (None: keeps all), never one of `protect`.

    A directory without a manifest neither counts nor is deleted here, so a half-written save never costs a good one.
    """
    if keep is None:
        return
    protected = {path.resolve() for path in protect}
    whole = [path for _, path in list_checkpoints(directory) if (path / MANIFEST).is_file()]
    for path in whole[max(keep, 1) :]:
        if path.resolve() not in protected:
            discard(path)


def discard(checkpoint: Path) -> None:
    """Deletes a directory, if it is there, its manifest first: cut off, no checkpoint is left rather than a bad one."""
    if checkpoint.is_dir():
        (checkpoint / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(checkpoint)
