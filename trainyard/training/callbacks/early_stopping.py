"""Early stopping that a resumed run decides as the run without a stop does."""

from typing import Any

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

KEPT_AS = ("EarlyStopping", "EarlyStoppingCallback")
"""Names under which trainer_state.json has the count: ours, and that of version 0.1."""


class EarlyStopping(EarlyStoppingCallback):
    """Ends a run after a number of evaluations in a row that are no better than the best before."""

    def restore(self, state: TrainerState) -> None:
        """Goes on with the count of a checkpoint; patience and threshold are those of this command.

        The state gets an entry for this callback: the library demands one for each at the next save, also where the
        checkpoint was written without early stopping.
        """
        known: Any = state.stateful_callbacks
        kept: dict[str, Any] = next((known[name] for name in KEPT_AS if name in known), {})
        self.early_stopping_patience_counter = kept.get("attributes", {}).get("early_stopping_patience_counter", 0)
        known[type(self).__name__] = self.state()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True  # decided before this start, which only saves the model
