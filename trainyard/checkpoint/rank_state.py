"""What a rank keeps of itself in a checkpoint, beside the files of the Trainer and of DeepSpeed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from trainyard.data.batches.loader import BatchLayout
from trainyard.errors import FinalError
from trainyard.files import known, read_json, write_json

FILE = "trainer_window_{}.json"
"""In a checkpoint, one for each rank."""


@dataclass(frozen=True)
class BadStepsState:
    """Of trainyard.training.callbacks.bad_steps."""

    total: int = 0
    """Bad steps of the run."""
    streak: list[str] = field(default_factory=list)
    """A line about each bad step since the last good one."""
    save_due: bool = False
    evaluation_due: bool = False
    """These wait for the next good step."""


@dataclass(frozen=True)
class SpikesState:
    """Of trainyard.training.callbacks.spikes."""

    losses: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class BestState:
    """Of trainyard.training.best: the best evaluation whose step has a checkpoint."""

    step: int
    value: float


@dataclass(frozen=True)
class ScheduleState:
    """Of trainyard.training.schedule: how the steps of a run lie on the schedule of the learning rate."""

    global_batch: int
    max_steps: int
    """Steps of the run."""
    total: int
    """Steps of the schedule, as many until the global batch changes."""
    first_step: int = 0
    first_place: float = 0
    """From `first_step` on, which stands at this place of the schedule, its rest is laid over the rest of the run."""


@dataclass(frozen=True)
class RankState:
    """The state by which a resumed run logs, evaluates and judges its steps as if it had never ended."""

    loss: float
    """Sum over the steps since the last line of metrics, on this rank."""
    last_logged: int
    """The step of that line."""
    evaluation_due: bool = False
    """An evaluation was left out because the run was to stop."""
    bad_steps: BadStepsState = field(default_factory=BadStepsState)
    spikes: SpikesState = field(default_factory=SpikesState)
    best: BestState | None = None
    """None while there is none, and in a checkpoint of version 0.1."""
    tokens_seen: int | None = None
    """Tokens of all ranks. This and the next are None in a checkpoint of version 0.1."""
    schedule: ScheduleState | None = None
    skipped: Sequence[Sequence[int]] = ()
    """Stretches [first, stop) of global positions that the run leaves out of its data."""

    def write(self, checkpoint: Path, rank: int) -> None:
        write_json(checkpoint / FILE.format(rank), asdict(self))


def read_rank_state(checkpoint: Path, batch_layout: BatchLayout) -> RankState | None:
    """The state of this rank; None when the checkpoint has none.

    Raises:
        FinalError: a file lacks what it must have.

    Where another number of ranks wrote the checkpoint, every rank takes rank 0's, with the mean loss over all of them.
    """
    states = [_read(file) for file in sorted(checkpoint.glob(FILE.format("*")))]
    if not states:
        return None
    if len(states) == batch_layout.world_size:
        return _read(checkpoint / FILE.format(batch_layout.rank))
    return replace(states[0], loss=sum(state.loss for state in states) / len(states))


def _read(file: Path) -> RankState:
    facts = read_json(file)
    try:
        facts["bad_steps"] = BadStepsState(**known(BadStepsState, facts.get("bad_steps", {})))
        for name, kind in (("best", BestState), ("schedule", ScheduleState)):
            if facts.get(name) is not None:
                facts[name] = kind(**known(kind, facts[name]))
        facts["spikes"] = SpikesState(**known(SpikesState, facts.get("spikes", {})))
        return RankState(**known(RankState, facts))
    except TypeError as error:  # a key is missing, or what should hold keys is something else
        way_on = "Resume from an older checkpoint (delete this one), or with the version that wrote it"
        raise FinalError(f"{file}: damaged, or of another version of trainyard: {error}. {way_on}") from error
