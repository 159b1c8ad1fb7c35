"""Which rank reads which sequences when: micro batches of the global order, from any step on, at the same cost."""

import errno
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from trainyard.data.batches.collator import Collator
from trainyard.data.batches.dataset import TokenDataset
from trainyard.data.sequences.order import Indices, Stretches, sample_indices, without


@dataclass(frozen=True)
class BatchLayout:
    """How a global batch is divided: `world_size` ranks x `accumulation` micro batches of `micro_batch` sequences.

    A run may have had another global batch before `first_step`, at which it had trained on `first_sample` sequences.
    """

    rank: int
    world_size: int
    micro_batch: int
    accumulation: int
    first_step: int = 0
    first_sample: int = 0

    @property
    def global_batch(self) -> int:
        """Sequences per optimizer step, over all ranks."""
        return self.world_size * self.micro_batch * self.accumulation

    def samples_before(self, step: int) -> int:
        """Sequences that all ranks have trained on before a step, `first_step` or a later one."""
        return self.first_sample + (step - self.first_step) * self.global_batch


def step_positions(batch_layout: BatchLayout, step: int, skipped: Stretches) -> Indices:
    """The global positions that a step trains on, ascending, whatever the world size. Steps count from 0."""
    places = np.arange(batch_layout.samples_before(step), batch_layout.samples_before(step + 1), dtype=np.int64)
    return without(places, skipped)


def micro_batch_positions(
    batch_layout: BatchLayout, step: int, accumulated: int, rank: int, skipped: Stretches
) -> Indices:
    """The positions of a step that are micro batch number `accumulated` of a rank."""
    in_step = (accumulated * batch_layout.world_size + rank) * batch_layout.micro_batch
    first = batch_layout.samples_before(step) + in_step
    return without(np.arange(first, first + batch_layout.micro_batch, dtype=np.int64), skipped)


class MicroBatches(Sampler[list[int]]):
    """Yields the sample numbers of this rank's micro batches, for the optimizer steps [start_step, max_steps).

    The stretches `skipped` are taken out of the global order. Step s trains on the places [samples_before(s),
    samples_before(s + 1)) of the rest, whatever the world size; micro batch a of rank r begins at the place
    (a * world_size + r) * micro_batch of these. With 2 ranks, a micro batch of 2 and 2 accumulated, step 0 is

        place   0 1 | 2 3 | 4 5 | 6 7
        rank     0     1     0     1
        a        0     0     1     1

    The order continues over the epochs, so no sequence is dropped at the end of an epoch. The length counts all steps,
    those before start_step too.
    """

    def __init__(
        self,
        num_samples: int,
        batch_layout: BatchLayout,
        *,
        seed: int,
        start_step: int,
        max_steps: int,
        skipped: Stretches = (),
    ):
        self.num_samples, self.batch_layout, self.seed, self.skipped = num_samples, batch_layout, seed, skipped
        self.start_step, self.max_steps = start_step, max_steps

    def __len__(self) -> int:
        return self.max_steps * self.batch_layout.accumulation

    def __iter__(self) -> "MicroBatchIterator":
        return MicroBatchIterator(self)

    def micro_batch(self, number: int) -> list[int]:
        """Micro batch `number` of this rank, counted from the first of step 0."""
        step, accumulated = divmod(number, self.batch_layout.accumulation)
        positions = micro_batch_positions(self.batch_layout, step, accumulated, self.batch_layout.rank, self.skipped)
        return sample_indices(positions, self.num_samples, self.seed).tolist()


class MicroBatchIterator(Iterator[list[int]]):
    """Continues from any position at no cost: its state, which StatefulDataLoader saves and restores, is one number."""

    def __init__(self, batches: MicroBatches):
        self.batches = batches
        self.number = batches.start_step * batches.batch_layout.accumulation

    def __next__(self) -> list[int]:
        if self.number >= len(self.batches):
            raise StopIteration
        self.number += 1
        return self.batches.micro_batch(self.number - 1)

    def state_dict(self) -> dict[str, int]:
        """The number of micro batches that were yielded, those before start_step included."""
        return {"micro_batches": self.number}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues behind the micro batches of a state."""
        self.number = state["micro_batches"]


class TimedLoader:
    """A loader that adds up the seconds that training has waited for it.

    Attributes:
        dataset: the loader's dataset.
        seconds_waited: since the loader was made.
    """

    def __init__(self, loader: Any):
        self.loader = loader
        self.dataset = loader.dataset
        self.seconds_waited = 0.0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self.loader)
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            self.seconds_waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch


def train_loader(
    dataset: TokenDataset,
    collator: Collator,
    batch_layout: BatchLayout,
    *,
    seed: int,
    start_step: int,
    max_steps: int,
    skipped: Stretches = (),
    **options: Any,
) -> TimedLoader:
    """This rank's training batches. `options`, such as num_workers, go to torchdata's StatefulDataLoader."""
    batches = MicroBatches(
        len(dataset), batch_layout, seed=seed, start_step=start_step, max_steps=max_steps, skipped=skipped
    )
    return TimedLoader(_loader(dataset, collator, batches, seed, options))


def eval_loader(
    dataset: TokenDataset, collator: Collator, *, rank: int, world_size: int, batch_size: int, **options: Any
) -> Any:
    """This rank's share of the evaluation: each sequence once over all ranks, in the plan's order.

    Every rank yields the same number of batches, as collective operations in the forward pass require. The last
    batches of a rank may hold no token.
    """
    rounds = -(-len(dataset) // (batch_size * world_size))
    batches = []
    for index in range(rounds):
        first = (index * world_size + rank) * batch_size
        batches.append(list(range(first, min(first + batch_size, len(dataset)))))
    return _loader(dataset, collator, batches, 0, options)


def _loader(dataset: TokenDataset, collator: Collator, batches: Any, seed: int, options: dict[str, Any]) -> Any:
    # With a generator of its own the loader draws nothing from the global one, whose state a checkpoint restores.
    return _Loader(
        dataset,
        batch_sampler=batches,
        collate_fn=collator,
        generator=torch.Generator().manual_seed(seed),
        worker_init_fn=_send_by_value,
        **options,
    )


class _Loader(StatefulDataLoader):
    """Says what to do when /dev/shm is full."""

    def __iter__(self) -> Any:
        """
        Raises:
            OSError: data workers cannot be started, with the reason.
        """
        try:
            return super().__iter__()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            reason = (
                f"/dev/shm is full, and trainer.dataloader_num_workers={self.num_workers} needs some bytes there for "
                f"locks: delete what nobody uses, give a container more (docker run --shm-size), or set it to 0"
            )
            raise OSError(error.errno, reason) from error


def _send_by_value(worker: int) -> None:
    """Has a data worker send its batches through the pipe instead of /dev/shm, as PyTorch does.

    With a full /dev/shm a worker would lose its batch and tell the rank nothing, which would wait for ever.
    """
    ForkingPickler.register(torch.Tensor, lambda tensor: (torch.from_numpy, (tensor.numpy(),)))
