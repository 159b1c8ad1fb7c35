import json
import socket
from pathlib import Path

import pytest

from trainyard.checks import request
from trainyard.checks.resolve import micro_batch, resolve
from trainyard.config.compose import compose
from trainyard.config.schema import Config
from trainyard.machine.devices import CPU, Devices, visible
from trainyard.rundir.directory import RunDir

H200 = Devices(kind="cuda", count=8, name="NVIDIA H200", bf16=True, indices=tuple(range(8)))


def resolved(tmp_path: Path, *overrides: str, devices: Devices = CPU) -> Config:
    config = compose("pretrain", [f"paths.outputs={tmp_path / 'out'}", *overrides])
    resolve(config, overrides, devices, {})
    return config


def found(tmp_path: Path, *overrides: str, devices: Devices = CPU) -> list[str]:
    config = resolved(tmp_path, *overrides, devices=devices)
    run = RunDir(Path(config.paths.outputs) / "pretrain" / str(config.run.name))
    return request.problems(config, devices, run)


def only(tmp_path: Path, *overrides: str, devices: Devices = CPU) -> str:
    problems = found(tmp_path, *overrides, devices=devices)
    assert len(problems) == 1, problems
    return problems[0]


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


def test_accumulation_follows_from_the_global_batch(tmp_path: Path) -> None:
    overrides = ["trainer.global_batch_size=64", "trainer.per_device_train_batch_size=4"]
    assert resolved(tmp_path, *overrides).trainer.gradient_accumulation_steps == 8
    assert resolved(tmp_path, *overrides, devices=H200).trainer.gradient_accumulation_steps == 2
    free = ["trainer.global_batch_size=null", "trainer.per_device_train_batch_size=5"]
    assert resolved(tmp_path, *free, "trainer.gradient_accumulation_steps=3").trainer.global_batch_size == 30
    assert "is 8" in only(tmp_path, *overrides, "trainer.gradient_accumulation_steps=3")


def test_the_micro_batch_is_the_largest_that_divides() -> None:
    assert [micro_batch(8, ranks) for ranks in (1, 2, 4, 8)] == [8, 4, 2, 1]
    assert micro_batch(24, 2) == 6
    assert micro_batch(7, 2) == 1


def test_block_longer_than_the_context(tmp_path: Path) -> None:
    assert "context is 1024 tokens" in only(tmp_path, "data.block_size=2000")
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 32}))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert "context is 32 tokens" in only(tmp_path, f"model.path={tmp_path}")


def test_offload_needs_a_gpu(tmp_path: Path) -> None:
    assert "set deepspeed=zero3" in only(tmp_path, "deepspeed=zero3_offload")


def test_missing_paths_are_named(tmp_path: Path) -> None:
    assert "nowhere.txt" in only(tmp_path, "data.sources=[{path: /nowhere.txt, format: text}]")
    assert "no file matches" in only(tmp_path, "data.sources=[{path: '/nowhere/*.txt', format: text}]")
    assert "no such directory" in found(tmp_path, "model.path=/nowhere/model")[0]
    assert "no such directory" in only(tmp_path, "tokenizer.path=/nowhere/tokenizer")
    assert "No such file" in only(tmp_path, "deepspeed.config=/nowhere.json")


@pytest.mark.faults(case="17", fault="launch.master_port in use")
def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("", 0))
        held.listen()
        port = held.getsockname()[1]
        assert f"launch.master_port={port}: the port is in use" in only(tmp_path, f"launch.master_port={port}")
    assert found(tmp_path, f"launch.master_port={port}") == []


def test_a_live_run_is_named_and_a_dead_lock_does_not_block(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "out" / "pretrain" / "default")
    assert run.acquire()
    assert f"the run is alive, {run.holder()}" in only(tmp_path)
    assert not RunDir(run.path).acquire()
    run.release()
    assert found(tmp_path) == []


def test_values_outside_their_range(tmp_path: Path) -> None:
    wrong = ["data.eval_fraction=2", "trainer.learning_rate=0", "data.block_size=1", "trainer.eval_strategy=stepz"]
    problems = found(tmp_path, *wrong)
    assert len(problems) == len(wrong)
    assert "trainer.eval_strategy=stepz: must be one of no, steps, epoch" in problems


def test_bad_steps_and_spikes(tmp_path: Path) -> None:
    wrong = ["max_bad_steps=0", "on_spike=panic", "spike_deviations=0", "spike_deviations=nan", "spike_window=9"]
    for setting in wrong:
        assert only(tmp_path, f"trainer.{setting}").startswith(f"trainer.{setting}")
    assert found(tmp_path, "trainer.on_spike=rollback", "trainer.spike_window=10", "trainer.max_bad_steps=1") == []


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
        ({}, "zero_optimization is None: must be an object"),
        ({"zero_optimization": {"stage": "auto"}}, "stage is auto: must be 1, 2 or 3"),
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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.seed=-1", "must be at least 0"),
        ("run.name=" + "x" * 300, "longer than 200 bytes"),
        ("launch.num_devices=0", "must be at least 1"),
        ("model.hidden_size=0", "must be at least 1"),
        ("model.model_type=nope", "transformers has no such architecture"),
        ("trainer.warmup_steps=-5", "must not be negative"),
        ("trainer.dataloader_prefetch_factor=2", "set trainer.dataloader_num_workers"),
        ("trainer.lr_scheduler_type=cosine_with_min_lr", "min_lr_rate"),
        ("trainer.metric_for_best_model=accuracy", "must be one of None, loss"),
        ("run.resume=/nowhere", "must be auto, never or a checkpoint directory"),
    ],
)
def test_what_a_rank_would_stumble_over(tmp_path: Path, override: str, message: str) -> None:
    assert message in only(tmp_path, override)


def test_the_best_model_needs_a_checkpoint_at_every_evaluation(tmp_path: Path) -> None:
    best = "trainer.load_best_model_at_end=true"
    assert "set it to steps" in only(tmp_path, best, "trainer.save_strategy=epoch")
    assert "multiple of trainer.eval_steps=200" in only(tmp_path, best, "trainer.save_steps=300")


def test_pretrained_weights_have_their_own_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert "model.init=scratch" in only(tmp_path, f"model.path={tmp_path}", "model.hidden_size=8")
    assert found(tmp_path, f"model.path={tmp_path}", "model.hidden_size=8", "model.init=scratch") == []


def test_visible_gpus_are_read_as_cuda_reads_them() -> None:
    uuids = ["GPU-aa", "GPU-bb", "GPU-cc", "GPU-dd"]
    assert visible(None, uuids) == [0, 1, 2, 3]
    assert visible("2,3", uuids) == [2, 3]
    assert visible("GPU-b,0", uuids) == [1, 0]
    assert visible("1,9,2", uuids) == [1]
    assert visible("", uuids) == visible("-1", uuids) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.packing=greedy"], "data.packing=greedy: must be one of concat, best_fit, padded"),
        (["data.on_error=ignore"], "data.on_error=ignore: must be one of stop, skip"),
        (["data.max_rejected=1.5"], "data.max_rejected=1.5: a share of the documents"),
        (["data.max_document_mb=0"], "data.max_document_mb=0.0: must be above 0"),
        (["data.sources=[{path: conf, format: text, weight: 0}]"], "sources[0].weight=0.0: must be above 0"),
        (["data.sources=[{path: conf, format: text, epochs: -1}]"], "sources[0].epochs=-1.0: must be above 0"),
        (["data.sources=[{path: conf, format: text, document: page}]"], "must be one of line, paragraph, file"),
        (
            ["data.sources=[{path: conf, format: text, weight: 1}, {path: conf, format: text}]"],
            "data.sources[1].weight: is not set and others are",
        ),
    ],
)
def test_data_settings_that_make_no_sense_are_named(
    tmp_path: Path, in_root: None, overrides: list[str], message: str
) -> None:
    assert message in only(tmp_path, *overrides)
