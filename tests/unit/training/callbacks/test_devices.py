import torch

from trainyard.training.callbacks.devices import DeviceMonitor, of_all_ranks


def test_what_the_driver_does_not_tell_is_left_out() -> None:
    read = DeviceMonitor().read()
    assert 0 < read["memory_gib"] < 1000
    told = of_all_ranks({**read, "cpu_percent": 12.3456, "gpu_watts": float("nan")}, torch.device("cpu"))
    assert told["cpu_percent"] == [12.346] and "memory_gib" in told and "gpu_watts" not in told
