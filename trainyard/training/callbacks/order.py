"""The order in which the callbacks are called at every event, and the reason for it."""

from dataclasses import dataclass, field

from transformers import TrainerCallback

from trainyard.tracking.callback import TrackerCallback
from trainyard.training.callbacks.bad_steps import BadSteps
from trainyard.training.callbacks.deepspeed_record import DeepSpeedRecord
from trainyard.training.callbacks.early_stopping import EarlyStopping
from trainyard.training.callbacks.generations import GenerationsCallback
from trainyard.training.callbacks.profile import ProfileCallback
from trainyard.training.callbacks.progress import ProgressCallback
from trainyard.training.callbacks.speed import SpeedCallback
from trainyard.training.callbacks.spikes import SpikeCallback
from trainyard.training.callbacks.stop import StopCallback


@dataclass
class Callbacks:
    """The callbacks of a run. Several take part in collective operations, so the order is the same on every rank."""

    speed: SpeedCallback
    stop: StopCallback
    bad_steps: BadSteps
    spikes: SpikeCallback
    early_stopping: list[EarlyStopping] = field(default_factory=list)
    """None or one."""
    generations: GenerationsCallback | None = None
    progress: ProgressCallback | None = None
    """This and the following exist on rank 0 alone."""
    deepspeed_record: DeepSpeedRecord | None = None
    tracker: TrackerCallback | None = None
    profile: ProfileCallback | None = None

    def in_order(self, resume: TrainerCallback, step_bounds: TrainerCallback) -> list[TrainerCallback]:
        """All callbacks after transformers' own flow control, which decides when to log, evaluate and save.

        Args:
            resume: restores the rank's state and watches background saves; the Trainer's own.
            step_bounds: what the Trainer does at the beginning and the end of a step.
        """
        order = [
            # Adds its figures to a line of metrics, which all others then see complete.
            self.speed,
            # Knows whether the ranks leave at this step, which bad_steps and spikes ask.
            self.stop,
            # After stop: it makes up for a save that was put off, unless the ranks leave. Adds bad_steps to the line.
            self.bad_steps,
            # After bad_steps: the loss of a bad step is no spike and does not enter the window.
            self.spikes,
            # After those that a checkpoint restores; a failed background save ends the run only after they have judged.
            resume,
            *self.early_stopping,
            # Before progress: answering takes time, which must not count in the estimate of the time left.
            self.generations,
            # After speed and bad_steps: writes the complete line.
            self.progress,
            self.deepspeed_record,
            # After progress, so that a line is in metrics.jsonl before it is sent.
            self.tracker,
            # After all others that do something at the end of a step, so that their work counts for this step.
            self.profile,
            # Last: the learning rate moves on once everybody has seen the step with its own.
            step_bounds,
        ]
        return [callback for callback in order if callback is not None]
