"""Metrics of an objective, averaged as the loss is."""

import torch
import torch.distributed as dist

from trainyard.training.objectives.metric_sums import MetricSums


def test_micro_batches_add_up_to_a_step_and_steps_are_averaged(one_rank: None) -> None:
    sums = MetricSums()
    for margin in (1.0, 2.0):  # two steps, each of two micro batches
        sums.add({"margin": torch.tensor(margin), "accuracy": torch.tensor(0.25)}, 1.0)
        sums.add({"margin": torch.tensor(margin), "accuracy": torch.tensor(0.5)}, 1.0)
        sums.end_step(good=True)
    assert sums.take() == {"margin": 3.0, "accuracy": 0.75}
    assert sums.take() == {}


def test_a_bad_step_counts_in_no_mean(one_rank: None) -> None:
    sums = MetricSums()
    for value, good in ((1.0, True), (float("nan"), False), (4.0, True)):
        sums.add({"margin": torch.tensor(value)}, 1.0)
        sums.end_step(good=good)
    assert sums.take() == {"margin": 2.5}


def test_the_scale_is_that_of_the_loss(one_rank: None) -> None:
    sums = MetricSums()
    sums.add({"margin": torch.tensor(3.0)}, 0.5)
    sums.end_step(good=True)
    assert sums.take() == {"margin": 1.5}


def test_without_metrics_the_ranks_exchange_nothing() -> None:
    assert not dist.is_initialized()
    sums = MetricSums()
    sums.add({}, 1.0)
    sums.end_step(good=True)
    assert sums.take() == {}
