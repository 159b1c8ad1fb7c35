"""Which samples a step trains on, and how they are named to the user."""

from dataclasses import dataclass

from trainyard.data.batches.dataset import TokenDataset
from trainyard.data.batches.loader import BatchLayout, micro_batch_positions, step_positions
from trainyard.data.sequences.order import Indices, Stretches, sample_indices

DOCUMENTS_SHOWN = 8


@dataclass(frozen=True)
class StepSamples:
    """The samples of a run's steps, which count from 0, as positions in the global order."""

    dataset: TokenDataset
    batch_layout: BatchLayout
    seed: int
    skipped: Stretches
    """Stretches [first, stop) of the global order that the run leaves out."""

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a global batch, filling not counted; on average, where sequences differ in length."""
        return round(self.batch_layout.global_batch * self.dataset.plan.tokens_per_sequence)

    def of_step(self, step: int) -> Indices:
        """The global positions of a step, ascending, int64 of shape [global_batch]."""
        return step_positions(self.batch_layout, step, self.skipped)

    def of_micro_batch(self, step: int, accumulated: int, rank: int) -> Indices:
        """The global positions of one micro batch of a rank, int64 of shape [micro_batch]."""
        return micro_batch_positions(self.batch_layout, step, accumulated, rank, self.skipped)

    def named(self, positions: Indices) -> str:
        """As `samples 56 to 63 (documents 3, 17)`; `python -m trainyard preview` shows both numbers."""
        indices = sample_indices(positions, len(self.dataset), self.seed)
        documents = self.dataset.documents(indices)
        shown = ", ".join(map(str, documents[:DOCUMENTS_SHOWN]))
        more = f" and {len(documents) - DOCUMENTS_SHOWN} more" if len(documents) > DOCUMENTS_SHOWN else ""
        return f"samples {positions[0]} to {positions[-1]} (documents {shown}{more})"
