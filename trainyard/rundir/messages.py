"""What the controller and the ranks of a run say to each other: each message is a file of the run directory.

| message     | file                   | written by                        | read by                          |
| ----------- | ---------------------- | --------------------------------- | -------------------------------- |
| Progress    | progress.json          | rank 0, about twice a second      | the controller, `trainyard runs` |
| LastWords   | logs/rank-N.error.json | a rank that fails                 | the controllers of all nodes     |
| RankProcess | logs/rank-N.pid        | a rank, until it leaves in order  | the controller of its node       |
| Killed      | logs/rank-N.killed     | the controller of the rank's node | the controllers of all nodes     |
| Stop        | stop                   | a controller that saw a signal    | rank 0                           |
| Lead        | lead.json              | the first node's controller       | controllers of further nodes     |

A file is replaced in one step, so nobody reads half a message. Keys of another version are passed over, and missing
ones have the defaults below.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.files import known, read_json, write_json, write_text
from trainyard.rundir.directory import RunDir

NO_WORDS = "it failed, and there was no room on the disk for its message"
"""The error of a rank whose LastWords are an empty file."""


class Phase:
    """What a rank is at. The text is shown to people; the controller acts on STOPPED and DONE."""

    STARTING = "starting"
    TRAINING = "training"
    EVALUATING = "evaluating"
    SAVING = "saving a checkpoint"
    WRITING = "writing the checkpoint"
    CONVERTING = "converting the best checkpoint"
    ANSWERING = "answering the sample prompts"
    SAVING_MODEL = "saving the model"
    STOPPED = "stopped"
    """The ranks leave on request, and the last checkpoint is of their last step."""
    DONE = "done"
    """The model is saved."""


@dataclass(frozen=True)
class Progress:
    """How far the run is. A launch counts as hung when this does not change for launch.hang_timeout_s."""

    phase: str = ""
    """One of Phase; empty while no rank has said anything."""
    step: int | None = None
    """The last optimizer step that was finished; None before the first training."""
    max_steps: int | None = None
    tokens_seen: int | None = None
    """Tokens of all ranks since step 0."""
    eta_s: float | None = None
    """Seconds to the last step, at the mean speed of this launch."""
    loss: float | None = None
    tokens_per_second: float | None = None
    batch: int | None = None
    """Batches of the evaluation that is on."""
    asked: str = ""
    """Why the ranks are stopping: the name of a signal that one of them got; empty otherwise."""
    model_step: int | None = None
    """With DONE: the step of the saved model, which is the best one's with trainer.load_best_model_at_end."""
    final: dict[str, float] | None = None
    """With DONE: the value of every metric at that step, and the first of the losses as first_<name>."""

    def figures(self) -> dict[str, Any]:
        """Those that status.json has too, by name; only what is known."""
        figures = {
            "step": self.step, "max_steps": self.max_steps, "tokens_seen": self.tokens_seen,
            "model_step": self.model_step, "final": self.final,
        }  # fmt: skip
        return {name: value for name, value in figures.items() if value is not None}

    @classmethod
    def read(cls, run_dir: RunDir) -> "Progress":
        """The newest; Progress() when there is none."""
        return cls(**known(cls, read_json(run_dir.progress)))

    def write(self, run_dir: RunDir) -> None:
        """Replaces the older one. Values that are not known are left out."""
        values = dataclasses.asdict(self)
        write_json(run_dir.progress, {name: value for name, value in values.items() if value not in (None, "")})


@dataclass(frozen=True)
class LastWords:
    """The exception of which a rank dies."""

    rank: int
    error: str
    """Type and message in one line."""
    step: int | None = None
    """The last step that the rank finished; None when the training had not begun."""
    final: bool = False
    """Would every further launch meet it again?"""
    rollback: bool = False
    """It is no failure: the ranks leave together, and the next launch goes on from the newest checkpoint."""
    time: float = math.inf
    """When it happened, in seconds since 1970; the rank with the smallest time failed first."""
    traceback: str = ""
    log: str = ""
    """The rank's log file."""

    @classmethod
    def read_all(cls, run_dir: RunDir) -> list["LastWords"]:
        """Those of all ranks that failed, the first one first, and those without a text last."""
        found = []
        for file in run_dir.logs.glob("rank-*.error.json"):
            values = known(cls, read_json(file))
            if {"rank", "error"} <= values.keys():
                found.append(cls(**values))
            elif _is_empty(file):
                rank = _rank(file)
                found.append(cls(rank, NO_WORDS, final=True, log=str(run_dir.logs / f"rank-{rank}.log")))
        return sorted(found, key=lambda words: words.time)

    @staticmethod
    def of(run_dir: RunDir, rank: int) -> Path:
        """The file of a rank."""
        return run_dir.logs / f"rank-{rank}.error.json"

    def write(self, run_dir: RunDir) -> None:
        """Leaves an empty file where there is no room for the text: the rank has failed and was not killed."""
        file = self.of(run_dir, self.rank)
        try:
            write_json(file, dataclasses.asdict(self))
        except OSError:
            file.touch()


@dataclass(frozen=True)
class RankProcess:
    """A rank that runs: the file is there from its start until it leaves in order."""

    rank: int
    host: str
    pid: int

    @classmethod
    def read_all(cls, run_dir: RunDir) -> Iterator["RankProcess"]:
        """Those of all nodes."""
        for file in run_dir.logs.glob("rank-*.pid"):
            host, _, pid = _text(file).partition(" ")
            if pid.isdigit():
                yield cls(_rank(file), host, int(pid))

    def write(self, run_dir: RunDir) -> None:
        write_text(self._file(run_dir), f"{self.host} {self.pid}")

    def remove(self, run_dir: RunDir) -> None:
        """The rank leaves in order."""
        self._file(run_dir).unlink()

    def _file(self, run_dir: RunDir) -> Path:
        return run_dir.logs / f"rank-{self.rank}.pid"


@dataclass(frozen=True)
class Killed:
    """A rank that died without last words, as its own node's controller has seen."""

    rank: int

    @classmethod
    def read_all(cls, run_dir: RunDir) -> list["Killed"]:
        """Those of all nodes, by rank."""
        return [cls(rank) for rank in sorted(map(_rank, run_dir.logs.glob("rank-*.killed")))]

    def write(self, run_dir: RunDir) -> None:
        (run_dir.logs / f"rank-{self.rank}.killed").touch()


@dataclass(frozen=True)
class Stop:
    """The ranks shall save a checkpoint and leave. A file, so that it reaches every node; its presence is enough."""

    asked: str = ""
    """Why: the name of a signal."""

    @classmethod
    def read(cls, run_dir: RunDir) -> "Stop | None":
        """None while the run may go on."""
        return cls(_text(run_dir.stop)) if run_dir.stop.exists() else None

    def write(self, run_dir: RunDir) -> None:
        """Leaves an empty file where there is no room for the text."""
        try:
            write_text(run_dir.stop, self.asked)
        except OSError:
            run_dir.stop.touch()


@dataclass(frozen=True)
class Lead:
    """The launch that is on, for controllers on further nodes: they start their ranks with the same."""

    leader: str
    """The first node's controller, as the owner of the run's lock."""
    attempt: int
    """The number of the launch, from 1."""
    checkpoint: str | None = None
    """The directory from which all ranks resume; None when they begin from the model."""

    @classmethod
    def read(cls, run_dir: RunDir) -> "Lead | None":
        """The newest; None when no controller has launched anything yet."""
        values = known(cls, read_json(run_dir.lead))
        return cls(**values) if {"leader", "attempt"} <= values.keys() else None

    def write(self, run_dir: RunDir) -> None:
        write_json(run_dir.lead, dataclasses.asdict(self))


def clear(run_dir: RunDir) -> None:
    """Removes what the controller and the ranks said in an earlier launch. The lead stays: it names its launch."""
    left = [path for kind in ("error.json", "pid", "killed") for path in run_dir.logs.glob(f"*.{kind}")]
    for file in (run_dir.progress, run_dir.stop, *left):
        file.unlink(missing_ok=True)


def _rank(file: Path) -> int:
    """`rank-3.pid` -> 3."""
    return int(file.name.partition(".")[0].removeprefix("rank-"))


def _is_empty(file: Path) -> bool:
    try:
        return not file.stat().st_size
    except OSError:
        return False


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
