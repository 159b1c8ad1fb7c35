import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from trainyard.checks import request
from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.config.deepspeed_rules import contradictions, malformed
from trainyard.config.schema import TrainerConfig
from trainyard.rundir.directory import RunDir
from unit.checking import H200

FILES = ROOT / "tests" / "data" / "deepspeed"

CPU_OFFLOAD = 'offload_optimizer needs an "optimizer" section'

OUTCOMES = {
    "llamafactory_z0": "zero_optimization.stage is 0: must be 1, 2 or 3; plain DDP is deepspeed=none",
    "llamafactory_z2": None,
    "llamafactory_z2_offload": CPU_OFFLOAD,
    "llamafactory_z3": None,
    "llamafactory_z3_autotp": "tensor_parallel: a checkpoint would have no weights",
    "axolotl_zero1": None,
    "axolotl_zero1_compile": "compile: it has no effect here; set trainer.torch_compile=true",
    "axolotl_zero2": None,
    "axolotl_zero3_bf16": None,
    "axolotl_zero3_offload_all": CPU_OFFLOAD,
    "swift_zero2": None,
    "swift_zero2_scheduler": "scheduler.type is WarmupDecayLR in the DeepSpeed JSON, and would be taken instead of",
    "swift_zero3_offload": None,
    "handbook_zero3": "zero_optimization is missing: must be an object with a stage",
    "handbook_zero3_expanded": None,
    "examples_chat": None,
    "examples_bert_lamb": "optimizer.type is Lamb: its trust ratio is one per layer",
    "examples_cifar": "zero_optimization.cpu_offload: an old name; leave it out",
    "examples_nvme": "offload_optimizer.device is nvme: needs nvme_path",
    "examples_compression": "compression_training: DeepSpeed has removed it",
    "examples_tensorboard": "tensorboard: its curves lie elsewhere",
}
"""Files in the manner of other projects: None where a file trains on GPUs, else the reason why it does not."""


def test_each_file_of_another_project_trains_or_is_refused_with_the_reason(tmp_path: Path) -> None:
    """tests/integration/test_deepspeed_json.py trains with those that are good."""
    assert sorted(file.stem for file in FILES.glob("*.json")) == sorted(OUTCOMES) and len(OUTCOMES) > 20
    config = compose("pretrain", [f"paths.outputs={tmp_path}", "deepspeed=zero2", "launch.num_devices=2"])
    resolve(config, [], H200, {})
    for name, reason in OUTCOMES.items():
        config.deepspeed.config = str(FILES / f"{name}.json")
        problems = request.problems(config, H200, RunDir(tmp_path / "run"))
        assert (problems == []) == (reason is None), (name, problems)
        assert reason is None or reason in problems[0]


def wrong(**values: Any) -> list[str]:
    return malformed({"zero_optimization": {"stage": 2}} | values)


def zero(stage: int = 3, **values: Any) -> list[str]:
    return malformed({"zero_optimization": {"stage": stage, **values}})


def test_a_misspelled_key_is_named_at_any_depth() -> None:
    assert wrong(gradient_cliping=1) == ["gradient_cliping: DeepSpeed has no such key. Did you mean gradient_clipping?"]
    assert zero(overlap_com=True, offload_optimizer={"devise": "cpu"}) == [
        "zero_optimization.overlap_com: DeepSpeed has no such key. Did you mean overlap_comm?",
        "zero_optimization.offload_optimizer.devise: DeepSpeed has no such key. Did you mean device?",
    ]
    for section, value, near in (
        ("optimizer", {"type": "AdamW", "params": {"beta": [0.9, 0.95]}}, "betas"),
        ("optimizer", {"typ": "AdamW"}, "type"),
        ("scheduler", {"type": "WarmupLR", "params": {"warmup_steps": 3}}, "warmup_num_steps"),
        ("fp16", {"enable": True}, "enabled"),
        ("data_types", {"grad_accum_dtyp": "fp32"}, "grad_accum_dtype"),
        ("aio", {"blocksize": 1}, "block_size"),
    ):
        assert any(f"Did you mean {near}?" in problem for problem in wrong(**{section: value})), section


def test_a_value_of_another_type_is_named() -> None:
    assert malformed({"zero_optimization": {"stage": "2"}})[0].startswith('zero_optimization.stage is "2": must be 1,')
    assert malformed({"zero_optimization": {"stage": True}})[0].startswith("zero_optimization.stage is true: must be")
    assert zero(reduce_bucket_size="5e8") == ['zero_optimization.reduce_bucket_size is "5e8": must be a whole number']
    assert zero(overlap_comm="true") == ['zero_optimization.overlap_comm is "true": must be true or false']
    assert wrong(train_batch_size=1.5) == ["train_batch_size is 1.5: must be a whole number"]
    assert wrong(fp16=True) == ["fp16 is true: must be an object; leave it out to switch it off"]
    assert wrong(steps_per_print="auto")[0].startswith('steps_per_print is "auto": the Trainer does not fill it in')
    assert zero(reduce_bucket_size=2e8, sub_group_size=1e9, stage3_prefetch_bucket_size="auto") == []


OFF = {
    "wandb": {"enabled": False}, "tensorboard": {}, "comet": {"enabled": False}, "csv_monitor": {"enabled": False},
    "flops_profiler": {"enabled": False, "profile_step": 3}, "compile": {"deepcompile": False},
    "autotuning": {"enabled": False}, "sequence_parallel_size": 1, "checkpoint": {"tag_validation": "Warn"},
    "activation_checkpointing": {"partition_activations": False}, "hybrid_engine": {"enabled": False},
}  # fmt: skip

ON = {
    "wandb": {"enabled": True}, "tensorboard": {"enabled": True, "output_path": "x"}, "comet": {"enabled": True},
    "csv_monitor": {"enabled": True}, "flops_profiler": {"enabled": True}, "compile": {"deepcompile": True},
    "autotuning": {"enabled": True}, "sequence_parallel_size": 2, "checkpoint": {"writer": {"type": "fast"}},
    "activation_checkpointing": {"partition_activations": True}, "hybrid_engine": {"enabled": True},
    "tensor_parallel": {"autotp_size": 2}, "curriculum_learning": {"enabled": True}, "amp": {"enabled": False},
    "bfloat16": {"enabled": True}, "data_efficiency": {"enabled": True}, "elasticity": {},
    "gradient_allreduce_op": "sum",
}  # fmt: skip


def test_what_fails_or_lies_here_is_refused_unless_it_is_off() -> None:
    assert [name for name, value in OFF.items() if wrong(**{name: value})] == []
    assert [
        name for name, value in ON.items() if not any(each.startswith(name) for each in wrong(**{name: value}))
    ] == []


def test_offloading_is_complete_or_refused() -> None:
    adam = {"optimizer": {"type": "AdamW"}}
    param = {"stage": 2, "offload_param": {"device": "cpu"}}
    assert malformed({"zero_optimization": param} | adam)[0].startswith("offload_param: parameters are divided under")
    assert zero(offload_param={"device": "disk"})[0] == "offload_param.device is disk: must be none, cpu or nvme"
    on_disk = {"device": "nvme", "nvme_path": "/disk"}
    assert malformed({"zero_optimization": {"stage": 3, "offload_optimizer": on_disk}} | adam) == []
    assert zero(stage3_gather_fp16_weights_on_model_save=True)[0].endswith("stage3_gather_16bit_weights_on_model_save")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"type": "AdamW", "params": {"lr": "auto"}}, None),
        ({"type": "adam"}, None),
        ({"type": "Muon"}, None),
        ({"type": "OneBitAdam"}, "optimizer.type is OneBitAdam: DeepSpeed does not have it, or not under ZeRO; take "),
        ({"type": "Adagrad"}, "optimizer.type is Adagrad: "),
        ({"type": "Lamb"}, "optimizer.type is Lamb: its trust ratio"),
        ({"type": "SGD"}, 'optimizer.type is SGD: DeepSpeed takes it with "zero_allow_untested_optimizer": true only'),
        ({"type": "sgd"}, "optimizer.type is sgd: DeepSpeed does not have it"),
        ({}, "optimizer.type is None: "),
        ({"type": "AdamW", "params": {"max_grad_norm": 1.0}}, "optimizer.params.max_grad_norm: the norm is trainer."),
        ({"type": "AdamW", "params": []}, "optimizer.params is []: must be an object"),
    ],
)
def test_an_optimizer_is_the_same_algorithm_under_zero_or_refused(section: dict[str, Any], message: str | None) -> None:
    problems = wrong(optimizer=section)
    assert problems == [] if message is None else problems[0].startswith(message)


def test_muon_needs_whole_gradients_under_stage_3() -> None:
    muon = {"optimizer": {"type": "Muon"}}
    assert "reduce_scatter" in malformed({"zero_optimization": {"stage": 3}} | muon)[0]
    assert malformed({"zero_optimization": {"stage": 3, "reduce_scatter": False}} | muon) == []


def test_a_scheduler_is_complete_or_refused() -> None:
    assert wrong(scheduler={"type": "Warmup"})[0].startswith("scheduler.type is Warmup: must be one of LRRangeTest, ")
    assert wrong(scheduler={"type": "WarmupDecayLR"})[0].endswith('needs "total_num_steps": "auto" in its params')
    zero_steps = {"type": "WarmupLR", "params": {"warmup_num_steps": 0, "warmup_type": "cubic"}}
    assert [each.partition(":")[0] for each in wrong(scheduler=zero_steps)] == [
        "scheduler.params.warmup_num_steps is 0", "scheduler.params.warmup_type is cubic"
    ]  # fmt: skip


def test_auto_and_missing_keys_agree_with_every_setting() -> None:
    batch = {"global_batch_size": 8, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    trainer = TrainerConfig(**batch, learning_rate=3e-4)
    values: dict[str, Any] = {
        "train_batch_size": "auto", "optimizer": {"type": "AdamW", "params": {"lr": 3e-4, "eps": 1e-8}}
    }  # fmt: skip
    assert contradictions(values, trainer) == []
    values["train_batch_size"] = 16
    (message,) = contradictions(values, trainer)
    assert message.startswith("train_batch_size is 16 in the DeepSpeed JSON, but trainer.global_batch_size is 8: ")


def test_two_optimizers_or_two_schedules_contradict_each_other() -> None:
    trainer = TrainerConfig(lr_scheduler_type="linear")
    both: dict[str, Any] = json.loads('{"optimizer": {"type": "Lion"}, "scheduler": {"type": "WarmupDecayLR"}}')
    assert contradictions(both, trainer) == []
    trainer.lr_scheduler_type = "cosine"
    trainer.optim = "adamw_torch"  # type: ignore[attr-defined]
    optimizer, scheduler = contradictions(both, trainer)
    assert optimizer.endswith("taken instead of trainer.optim=adamw_torch: leave one of them out")
    assert scheduler.endswith("trainer.lr_scheduler_type=cosine: set it to linear, or leave out the scheduler")
    both["optimizer"]["type"] = "AdamW"
    assert len(contradictions(both, trainer)) == 1
