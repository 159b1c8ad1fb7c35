"""The objects that the Trainer works with, beside the model and TrainingArguments."""

from dataclasses import dataclass
from typing import Any

from trainyard.checkpoint.save import Saver
from trainyard.data.batches.collator import Collator
from trainyard.data.batches.dataset import Datasets
from trainyard.data.batches.loader import BatchLayout
from trainyard.rundir.rank import Rank
from trainyard.training.best import BestCheckpoint
from trainyard.training.callbacks.order import Callbacks
from trainyard.training.kept import Kept
from trainyard.training.objectives.objective import Objective
from trainyard.training.restoring import Restorer


@dataclass(frozen=True)
class TrainerParts:
    """What `build` makes of a config, and hands over."""

    rank: Rank
    tokenizer: Any
    """Saved with every checkpoint and with the model."""
    datasets: Datasets
    collator: Collator
    batch_layout: BatchLayout
    objective: Objective
    callbacks: Callbacks
    saver: Saver
    restorer: Restorer
    best: BestCheckpoint
    kept: Kept
