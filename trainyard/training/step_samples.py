"""trainyard.training.step_samples."""

from dataclasses import dataclass

from trainyard.data.batches.dataset import TokenDataset
from trainyard.data.batches.loader import BatchLayout, micro_batch_positions, step_positions
from trainyard.data.sequences.order import Indices, Stretches, sample_indices

DOCUMENTS_SHOWN = 8


@dataclass(frozen=True)
class StepSamples:
    """Which samples a run's steps train on; steps count from 0."""

    dataset: TokenDataset
    split: BatchLayout
    seed: int
    skipped: Stretches

    def of_step(self, step: int) -> Indices:
        """Global positions, ascending."""
        return step_positions(self.split, step, self.skipped)

    def of_micro_batch(self, step: int, accumulated: int, rank: int) -> Indices:
        return micro_batch_positions(self.split, step, accumulated, rank, self.skipped)

    def named(self, positions: Indices) -> str:
        """As `samples 56 to 63 (documents 3, 17)`; both numbers are those that `python -m trainyard preview` shows."""
        indices = sample_indices(positions, len(self.dataset), self.seed)
        documents = self.dataset.documents(indices)
        shown = ", ".join(map(str, documents[:DOCUMENTS_SHOWN]))
        more = f" and {len(documents) - DOCUMENTS_SHOWN} more" if len(documents) > DOCUMENTS_SHOWN else ""
        return f"samples {positions[0]} to {positions[-1]} (documents {shown}{more})"
