import json
import socket
from pathlib import Path

import pytest

from trainyard.checks import request
from trainyard.machine.devices import CPU, Devices
from trainyard.rundir.directory import RunDir
from unit.checking import H200, found, only, resolved


def test_the_default_has_no_problem(tmp_path: Path) -> None:
    assert found(tmp_path) == []
    assert found(tmp_path, devices=H200) == []


@pytest.mark.parametrize("name", ["zero1", "zero2", "zero3", "zero2_offload", "zero3_offload", "none"])
def test_every_deepspeed_config_is_good_on_gpus(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, f"deepspeed={name}", devices=H200) == []


def test_batch_that_does_not_divide_names_sizes_that_do(tmp_path: Path) -> None:
    message = only(tmp_path, "trainer.global_batch_size=30", "trainer.per_device_train_batch_size=4")
    assert "multiple of 8" in message
    assert "as 24 or 32" in message
    assert "one of 1, 3, 5, 15" in message
    assert "ranks; " not in message and "launch.num_devices" not in message  # 30 is no whole number of 4
    message = only(
        tmp_path, "trainer.global_batch_size=8", "trainer.per_device_train_batch_size=2", "launch.num_devices=3"
    )
    assert "multiple of 6" in message
    assert "or set launch.num_devices for one of 1, 2, 4 ranks" in message


def test_offload_needs_a_gpu(tmp_path: Path) -> None:
    assert "set deepspeed=zero3" in only(tmp_path, "deepspeed=zero3_offload")


@pytest.mark.faults(case="17", fault="launch.master_port in use")
def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("", 0))
        held.listen()
        port = held.getsockname()[1]
        assert f"launch.master_port={port}: the port is in use" in only(tmp_path, f"launch.master_port={port}")
    assert found(tmp_path, f"launch.master_port={port}") == []


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
@pytest.mark.parametrize("value", ["", "0", "-1", "four", "4,2", "2.0"])
def test_threads_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert only(tmp_path).startswith(f"{name}={value!r} in the environment: must be a whole number of threads")
    monkeypatch.setenv(name, "4")
    assert found(tmp_path) == []


def test_a_live_run_is_named_and_a_dead_lock_does_not_block(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "out" / "pretrain" / "default")
    assert run.acquire()
    assert f"the run is alive, {run.holder()}" in only(tmp_path)
    assert not RunDir(run.path).acquire()
    run.release()
    assert found(tmp_path) == []


def test_devices(tmp_path: Path) -> None:
    assert "shows 8 GPUs" in only(tmp_path, "launch.num_devices=9", "trainer.global_batch_size=null", devices=H200)
    assert "no GPU" in only(tmp_path, "trainer.fp16=true")
    old = Devices(kind="cuda", count=2, name="Tesla V100", bf16=False)
    assert "Tesla V100 does not compute in bfloat16" in only(tmp_path, "trainer.bf16=true", devices=old)
    assert resolved(tmp_path, devices=H200).trainer.bf16 is True
    assert resolved(tmp_path).trainer.bf16 is False


def test_contradictions_between_the_json_and_the_trainer_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    values = {"train_micro_batch_size_per_gpu": 3, "gradient_clipping": 0.5, "bf16": {"enabled": True}}
    path.write_text(json.dumps(values | {"zero_optimization": {"stage": 2}}))
    problems = found(tmp_path, f"deepspeed.config={path}")
    assert len(problems) == 3
    assert "train_micro_batch_size_per_gpu is 3" in problems[0]
    assert "trainer.max_grad_norm is 1.0" in problems[1]
    assert "trainer.bf16 is False" in problems[2]
    path.write_text("{")
    assert "not valid JSON" in only(tmp_path, f"deepspeed.config={path}")


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = resolved(tmp_path, f"paths.outputs={tmp_path / 'file'}")
    problems = request.problems(config, CPU, RunDir(tmp_path / "file" / "pretrain" / "x"))
    assert len(problems) == 1
    assert "is a file" in problems[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "zero_optimization is missing: must be an object"),
        ({"zero_optimization": {"stage": "auto"}}, 'stage is "auto": must be 1, 2 or 3'),
        ({"zero_optimization": {"stage": 7}}, "stage is 7: must be 1, 2 or 3"),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": None}},
            "offload_optimizer is null: must be an object",
        ),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}, 'needs an "optimizer" section'),
        (
            {"zero_optimization": {"stage": 2, "compute_grad_norm": False}},
            "compute_grad_norm is false: a NaN gradient would be applied",
        ),
        (
            {"zero_optimization": {"stage": 2}, "bf16": {"enabled": "auto", "check_grad_overflow": False}},
            "check_grad_overflow is false: a NaN gradient would be applied",
        ),
        (
            {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": False}},
            "saved without weights",
        ),
    ],
)
def test_deepspeed_json_that_would_fail_in_the_ranks(tmp_path: Path, values: dict[str, object], message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(values))
    assert message in only(tmp_path, f"deepspeed.config={path}", devices=H200)


def test_the_best_model_needs_a_checkpoint_at_every_evaluation(tmp_path: Path) -> None:
    best = "trainer.load_best_model_at_end=true"
    assert "set it to steps" in only(tmp_path, best, "trainer.save_strategy=epoch")
    assert "multiple of trainer.eval_steps=200" in only(tmp_path, best, "trainer.save_steps=300")


def test_the_best_model_s_saves_and_evaluations_as_shares_of_the_run(tmp_path: Path) -> None:
    def problems(save: str, evaluate: str) -> list[str]:
        best = "trainer.load_best_model_at_end=true"
        return found(tmp_path, best, f"trainer.save_steps={save}", f"trainer.eval_steps={evaluate}")

    assert problems("0.2", "0.1") == problems("0.3", "0.1") == problems("400", "200") == []
    assert "must be a multiple of trainer.eval_steps=0.1" in problems("0.25", "0.1")[0]
    assert "both in steps, or both as shares" in problems("0.5", "100")[0]
    assert "both in steps, or both as shares" in problems("100", "0.5")[0]
