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
    tokens_before: int | None = None
    """Tokens that were seen before the layout's first step; None: as many as its sequences have now."""

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a global batch, filling not counted; on average, where sequences differ in length."""
        return round(self.batch_layout.global_batch * self.dataset.plan.tokens_per_sequence)

    def tokens_seen(self, step: int) -> int:
        """Tokens that all ranks have trained on before a step, the layout's first or a later one."""
        first, before = self.batch_layout.first_step, self.tokens_before
        if before is None:
            whole = self.batch_layout.first_sample == first * self.batch_layout.global_batch
            tokens = self.batch_layout.first_sample * self.dataset.plan.tokens_per_sequence
            before = first * self.tokens_per_step if whole else round(tokens)
        return before + (step - first) * self.tokens_per_step

    def epochs(self, step: int) -> float:
        """Epochs that are over before a step."""
        global_batch = self.batch_layout.global_batch
        return self.batch_layout.samples_before(step) / global_batch / (len(self.dataset) / global_batch)

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
