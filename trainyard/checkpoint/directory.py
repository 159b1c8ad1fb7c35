"""The checkpoints of a run: listed, the newest good one found, old ones deleted, room for the next one.

Needs no torch: the controller chooses the checkpoint to resume from before a GPU is claimed.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from trainyard.checkpoint.manifest import MANIFEST, Manifest, is_whole, verify
from trainyard.files import read_json

_NAME = re.compile(r"checkpoint-(\d+)")

STATE = "trainer_state.json"
"""In a checkpoint: the state of the Hugging Face Trainer."""


@dataclass(frozen=True)
class Verdict:
    """A checkpoint directory, judged."""

    path: Path
    step: int
    reason: str | None
    """Why it cannot be used; None for a good one."""


def required_bytes(directory: Path, trainable: int) -> int:
    """Estimates the next checkpoint: as large as the newest, or 20 bytes for each trainable parameter.

    20 bytes are the weights twice in 16 bits, for transformers and for DeepSpeed, and in float32 a copy of them and two
    moments of AdamW.
    """
    newest = newest_whole(directory)
    manifest = Manifest.read(newest) if newest else None
    return sum(entry.size for entry in manifest.files.values()) if manifest else 20 * trainable


def lack_of_space(directory: Path, needed: int, what: str = "a checkpoint") -> str | None:
    """Says that the disk of `directory` has less than `needed` bytes for `what`; None when there is room."""
    free = shutil.disk_usage(directory).free
    if free >= needed:
        return None
    takes = f"{what} takes about {needed / 1e6:,.1f} MB"
    return f"{directory}: {takes} and {free / 1e6:,.1f} MB are free. {_way_on(directory)}"


def no_space(directory: Path, error: BaseException | None = None) -> str:
    """Says that there was no room for a file of the run whose checkpoints `directory` holds.

    Args:
        error: may name the file.
    """
    name = getattr(error, "filename", None)
    file = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else directory.parent
    there = next(place for place in (file, *file.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    return f"{file}: there is no room on its disk, {free / 1e6:,.1f} MB are free. {_way_on(directory)}"


def _way_on(directory: Path) -> str:
    last = newest_whole(directory)
    return (
        f"Free some, keep fewer with trainer.save_total_limit, or set paths.outputs to another disk; "
        f"{f'{last.name} is untouched' if last else 'there is no checkpoint yet'}, the same command goes on from there"
    )


def list_checkpoints(directory: Path) -> list[tuple[int, Path]]:
    """(step, path) of every directory checkpoint-<step>, newest first, whether good or not."""
    if not directory.is_dir():
        return []
    found = ((step_of(path), path) for path in directory.iterdir() if path.is_dir())
    return sorted(((step, path) for step, path in found if step is not None), reverse=True)


def step_of(checkpoint: Path) -> int | None:
    """The step in a directory's name; None for a name of another form than checkpoint-<step>."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else None


def newest_whole(directory: Path) -> Path | None:
    """The newest checkpoint whose save has finished and whose files are all there; their content is not verified."""
    return next((path for _, path in list_checkpoints(directory) if is_whole(path)), None)


def newest_good(directory: Path) -> tuple[Verdict | None, list[Verdict]]:
    """The newest checkpoint that can be trusted, and the newer ones that cannot, each with the reason."""
    passed_over: list[Verdict] = []
    for step, path in list_checkpoints(directory):
        verdict = Verdict(path, step, verify(path))
        if verdict.reason is None:
            return verdict, passed_over
        passed_over.append(verdict)
    return None, passed_over


def best_of(checkpoint: Path) -> Path | None:
    """The checkpoint of the best evaluation up to a checkpoint of the same run; None without an evaluation."""
    recorded = read_json(checkpoint / STATE).get("best_model_checkpoint")
    return checkpoint.with_name(Path(recorded).name) if isinstance(recorded, str) else None


def rotate(directory: Path, keep: int | None, newest: Path, best: Path | None = None) -> None:
    """Deletes old checkpoints. `keep` of them stay, counted from `newest` back (None keeps all), and so does `best`.

    Neither counted nor deleted are directories that are no checkpoints (a half-written save never costs a good one) and
    checkpoints of later steps than `newest`: the run has passed over them.
    """
    if keep is None:
        return
    last = step_of(newest)
    assert last is not None
    reached = [path for step, path in list_checkpoints(directory) if step <= last and is_whole(path)]
    for path in reached[max(keep, 1) :]:
        if path.name not in (newest.name, best and best.name):
            discard(path)


def discard(checkpoint: Path) -> None:
    """Deletes a directory, if it is there. The manifest goes first: what a kill leaves behind is no checkpoint."""
    if checkpoint.is_dir():
        (checkpoint / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(checkpoint)
