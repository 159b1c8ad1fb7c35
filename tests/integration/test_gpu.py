"""On a machine with an NVIDIA GPU: bf16, NCCL, every ZeRO stage and both offloads."""

import json

import pytest
from conftest import Pretrain

from trainyard.machine.devices import detect

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not detect().on_gpu, reason="no NVIDIA GPU on this machine"),
]


@pytest.mark.parametrize("deepspeed", ["none", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload"])
def test_trains_in_bf16_on_the_gpu(pretrain: Pretrain, deepspeed: str) -> None:
    run = pretrain(f"gpu-{deepspeed}", f"deepspeed={deepspeed}", "launch.num_devices=1")
    assert run.code == 0, run.stdout + run.stderr
    assert "bf16" in run.stdout
    assert run.series("loss")[-1] < run.series("loss")[0]
    assert run.series("memory_gib")[-1] > 0
    assert set(run.metrics[-1]["ranks"]) == {"cpu_percent", "memory_gib", "gpu_percent", "gpu_watts", "gpu_celsius"}
    if deepspeed != "none":
        assert json.loads((run.run / "deepspeed.json").read_text())["bf16"]["enabled"] is True
