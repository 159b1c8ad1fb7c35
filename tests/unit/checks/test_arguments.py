"""Arguments that transformers would refuse in the ranks, or take without a word."""

from pathlib import Path

import pytest

from trainyard.machine.devices import Devices
from unit.checking import H200, found, only

WRONG = {
    "trainer.dataloader_num_workers=-1": "must be at least 0",
    "trainer.warmup_steps=-0.1": "must be at least 0",
    "trainer.warmup_steps=1.5": "must be a whole number of steps, or a share of the run below 1",
    "trainer.weight_decay=-1": "must be at least 0",
    "trainer.max_grad_norm=-1": "must be at least 0",
    "trainer.adam_beta2=1": "must be at least 0 and below 1",
    "trainer.label_smoothing_factor=1.1": "must be at least 0 and at most 1",
    "trainer.max_steps=0": "must be at least 1, or -1 for trainer.num_train_epochs to decide",
    "trainer.max_steps=-5": "must be at least 1, or -1 for trainer.num_train_epochs to decide",
    "trainer.torch_empty_cache_steps=0": "must be at least 1",
    "trainer.log_level=debugg": "must be one of debug, info, warning, error, critical, passive",
    "trainer.torch_compile_mode=fast": "must be one of default, reduce-overhead, ",
    "trainer.torch_compile_backend=inductorr": "must be one of no, eager, aot_eager, inductor, ",
    "trainer.dataloader_multiprocessing_context=thread": "must be one of fork, spawn, forkserver",
    "trainer.debug=underflow": "must be one of underflow_overflow",
    "trainer.gradient_checkpointing_kwargs={use_reentrent: false}": "there is none; there are use_reentrant, ",
    "trainer.liger_kernel_config.swigluu=true": "there is none; there are rope, ",
    "trainer.tf32=true": "there is no GPU; leave it out",
}


def test_each_argument_outside_its_range_is_named(tmp_path: Path) -> None:
    together = {override.partition("=")[0]: override for override in WRONG}
    for overrides in (list(together.values()), [item for item in WRONG if item not in together.values()]):
        problems = found(tmp_path, *overrides)
        assert len(problems) == len(overrides)
        for override in overrides:
            name = override.partition("=")[0]
            assert any(each.startswith(name) and WRONG[override] in each for each in problems), override


ENDLESS = (
        "trainer.learning_rate", "trainer.num_train_epochs", "trainer.warmup_steps", "trainer.max_grad_norm",
        "trainer.spike_deviations", "trainer.adam_epsilon", "trainer.save_steps", "data.eval_fraction",
        "data.max_document_mb", "data.sources.0.epochs", "peft.dropout", "launch.timeout_s", "trainer.eval_delay",
)  # fmt: skip


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_that_is_not_finite_is_named_once(tmp_path: Path, value: str) -> None:
    problems = found(tmp_path, *(f"{name}={value}" for name in ENDLESS))
    assert sorted(problems) == sorted(
        f"{name.replace('.0.', '[0].')}={value}: must be a finite number" for name in ENDLESS
    )


def test_ordinary_arguments_have_no_problem(tmp_path: Path) -> None:
    ordinary = [
        "trainer.warmup_steps=0.03", "trainer.max_grad_norm=0", "trainer.label_smoothing_factor=0.1",
        "trainer.torch_compile_backend=inductor", "trainer.include_num_input_tokens_seen=non_padding",
        "trainer.gradient_checkpointing_kwargs={use_reentrant: false}", "trainer.dataloader_num_workers=2",
        "trainer.dataloader_prefetch_factor=2", "trainer.log_level=passive", "model.config.rope_theta=1e6",
    ]  # fmt: skip
    assert found(tmp_path, *ordinary) == []


def test_what_the_device_cannot_do_is_named(tmp_path: Path) -> None:
    old = Devices(kind="cuda", count=2, name="Tesla V100", bf16=False)
    assert found(tmp_path, "trainer.tf32=true", devices=H200) == []
    assert "Tesla V100 does not compute in TF32" in only(tmp_path, "trainer.tf32=true", devices=old)
    assert "does not compute in bfloat16" in only(tmp_path, "trainer.bf16_full_eval=true", devices=old)
    both = only(tmp_path, "trainer.bf16_full_eval=true", "trainer.fp16_full_eval=true", devices=H200)
    assert both.endswith("choose one")


def test_two_names_of_one_switch_agree(tmp_path: Path) -> None:
    off = "trainer.activation_checkpointing=false"
    assert "two names of one switch" in only(tmp_path, "trainer.gradient_checkpointing=true", off)
    assert found(tmp_path, off) == []
