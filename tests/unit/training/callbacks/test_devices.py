"""Figures of every rank's device."""

import torch

from trainyard.training.callbacks.devices import DeviceMonitor, of_all_ranks


def test_a_rank_reads_its_load_and_its_memory() -> None:
    values = DeviceMonitor().read()
    assert {"cpu_percent", "memory_gib"} <= values.keys()
    assert 0.01 < values["memory_gib"] < 1000


def test_the_ranks_are_columns_and_what_is_not_known_is_left_out(one_rank: None) -> None:
    values = {"memory_gib": 1.23456, "gpu_watts": float("nan")}
    assert of_all_ranks(values, torch.device("cpu")) == {"memory_gib": [1.235]}
