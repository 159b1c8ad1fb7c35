from pathlib import Path

import pytest

from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.control.launchers import local
from trainyard.machine.devices import CPU, Devices
from trainyard.machine.processes import START
from trainyard.rundir.directory import RunDir


def test_the_command_carries_two_paths_and_no_other_override(tmp_path: Path) -> None:
    overrides = ["trainer.learning_rate=0.123", "tracking.project='$(touch pwned)'", f"paths.outputs={tmp_path}"]
    config = compose("pretrain", overrides)
    resolve(config, overrides, CPU, {})
    run = RunDir(tmp_path / "run")
    arguments = local.command(config, CPU, run, tmp_path / "checkpoint-7")
    assert arguments[-4:] == [START, "pretrain.train", str(run.config), str(tmp_path / "checkpoint-7")]
    assert "--no_local_rank" in arguments
    assert "--num_gpus=2" in arguments
    assert config.tracking.project == "$(touch pwned)"
    assert not any("pwned" in argument or "0.123" in argument for argument in arguments)


def test_visible_gpus_are_named_because_deepspeed_would_count_from_zero(tmp_path: Path) -> None:
    devices = Devices(kind="cuda", count=3, name="H200", bf16=True, indices=(2, 5, 7))
    config = compose("pretrain", ["launch.num_devices=2"])
    resolve(config, [], devices, {})
    arguments = local.command(config, devices, RunDir(tmp_path), None)
    assert "--include=localhost:2,5" in arguments
    assert not any(argument.startswith("--num_gpus") for argument in arguments)


LEFT_OVER = {
    "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4", "PMI_RANK": "3", "PMIX_RANK": "2", "MV2_RANK": "1",
    "MPI_LOCALRANKID": "1", "I_MPI_HYDRA_UUID": "x", "SLURM_PROCID": "1", "SLURM_NTASKS": "8", "SLURM_LOCALID": "3",
    "RANK": "5", "WORLD_SIZE": "7", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1", "ROLE_RANK": "1",
    "ROLE_WORLD_SIZE": "2", "ROLE_NAME": "trainer", "NODE_RANK": "1", "MASTER_ADDR": "elsewhere", "MASTER_PORT": "1",
    "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True", "PET_NNODES": "2",
    "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR", "ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3", "FSDP_SHARDING_STRATEGY": "1", "MEGATRON_LM_TP_DEGREE": "2",
    "PARALLELISM_CONFIG_TP_SIZE": "2", "FP8_BACKEND": "TE", "CROSS_RANK": "1", "LOCAL_SIZE": "4",
}  # fmt: skip
KEPT = {
    "NCCL_DEBUG": "INFO", "HF_HOME": "/hub", "SWANLAB_API_KEY": "key", "CUDA_HOME": "/cuda", "MY_RANK": "1",
    "RANKS": "2", "GLOO_SOCKET_IFNAME": "eth0", "KMP_AFFINITY": "none", "MPIR": "x", "TRAINYARD_LOCAL": "",
}  # fmt: skip


def test_what_another_launcher_left_in_the_shell_reaches_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (LEFT_OVER | KEPT).items():
        monkeypatch.setenv(name, value)
    env = local.environment(compose("pretrain", ["launch.num_devices=2"]), CPU)
    assert LEFT_OVER.keys() & env.keys() == set()
    assert KEPT.items() <= env.items()


def test_the_launcher_works_where_no_file_of_the_user_is_and_the_ranks_where_the_command_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    launch = local.start(["sh", "-c", "pwd; echo $TRAINYARD_DIRECTORY"], {}, Path("logs") / "launcher.log")
    launch.launcher.wait()
    assert (tmp_path / "logs" / "launcher.log").read_text().split() == [str(tmp_path / "logs"), str(tmp_path)]


def test_threads_are_shared_among_cpu_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    config = compose("pretrain", ["launch.num_devices=2"])
    env = local.environment(config, CPU)
    assert env["OMP_NUM_THREADS"] == "4"
    assert env["DS_ACCELERATOR"] == "cpu"
    gpu = Devices(kind="cuda", count=2, name="H200", bf16=True)
    assert "DS_ACCELERATOR" not in local.environment(config, gpu)
