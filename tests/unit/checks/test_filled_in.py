"""What a run says of the values that nobody gave."""

import json
from pathlib import Path

import pytest

from trainyard.checks.filled_in import FilledIn, lines
from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.config.overrides import with_implied
from trainyard.machine.devices import CPU, Devices

H100 = Devices(kind="cuda", count=8, name="NVIDIA H100 80GB HBM3", bf16=True)


def said(*overrides: str, stage: str = "pretrain", devices: Devices = CPU, hosts: dict[str, int] | None = None) -> str:
    """The lines without their `filled in: `, one space before the reason."""
    given = with_implied(overrides)
    values = resolve(compose(stage, overrides), given, devices, hosts or {})
    return "\n".join(" ".join(line.removeprefix("filled in: ").split()) for line in lines(values))


def test_the_default_run(tmp_path: Path) -> None:
    given = [f"paths.outputs={tmp_path}"]
    assert lines(resolve(compose("pretrain", given), given, CPU, {})) == [
        "filled in: run.name=default                       (from the overrides: the same command finds the run again)",
        "filled in: model=llama_tiny                       (default of conf/pretrain.yaml)",
        "filled in: data=stdlib                            (default of conf/pretrain.yaml)",
        "filled in: trainer=tiny                           (default of conf/pretrain.yaml)",
        "filled in: deepspeed=zero2                        (default of conf/pretrain.yaml)",
        "filled in: tokenizer.path=new                     (a BPE of 2,048 tokens, trained on the data)",
        "filled in: launch.num_devices=2                   (ranks on the CPU: there is no GPU)",
        "filled in: trainer.per_device_train_batch_size=4  "
        "(the largest up to 8 that divides trainer.global_batch_size=8 over 2 ranks)",
        "filled in: trainer.gradient_accumulation_steps=1  (trainer.global_batch_size=8 over 2 ranks x 4 sequences)",
    ]


def test_text_and_a_model_of_the_users_own_get_nothing_of_the_example(tmp_path: Path) -> None:
    source = "data.sources=[{path: notes.txt, format: text}]"
    model = model_of(tmp_path, max_position_embeddings=1024)
    found = said(
        f"paths.outputs={tmp_path}", source, f"model.path={model}", "trainer.weight_decay=0.05", "run.name=mine",
        "deepspeed.config=mine.json", devices=H100,
    )  # fmt: skip
    own = "as model.path and data.sources is given)"
    assert found == (
        f"data.packing=concat (conf/data/own_pretrain.yaml, {own}\n"
        f"data.eval_fraction=0.02 (conf/data/own_pretrain.yaml, {own}\n"
        f"trainer.num_train_epochs=1 (conf/trainer/own_pretrain.yaml, {own}\n"
        f"trainer.lr_scheduler_type=cosine (conf/trainer/own_pretrain.yaml, {own}\n"
        f"trainer.warmup_steps=0.02 (conf/trainer/own_pretrain.yaml, {own}\n"
        f"trainer.adam_beta2=0.95 (conf/trainer/own_pretrain.yaml, {own}\n"
        f"trainer.eval_steps=500 (conf/trainer/own_pretrain.yaml, {own}\n"
        f"trainer.save_steps=500 (conf/trainer/own_pretrain.yaml, {own}\n"
        "model.init=pretrained (model.path is given; scratch takes its architecture alone)\n"
        f"tokenizer.path={model} (the model's own)\n"
        "data.block_size=1024 (the model's context of 1,024 tokens)\n"
        "launch.num_devices=8 (all GPUs of this machine, NVIDIA H100 80GB HBM3)\n"
        "trainer.bf16=true (NVIDIA H100 80GB HBM3 computes in it)\n"
        "trainer.global_batch_size=64 (about 64, the default of pretrain, and a multiple of 8 sequences on 8 ranks)\n"
        "trainer.per_device_train_batch_size=8 "
        "(the largest up to 8 that divides trainer.global_batch_size=64 over 8 ranks)\n"
        "trainer.gradient_accumulation_steps=1 (trainer.global_batch_size=64 over 8 ranks x 8 sequences)\n"
        "trainer.per_device_eval_batch_size=8 (as trainer.per_device_train_batch_size)\n"
        "trainer.learning_rate=0.0001 (for pretrained weights of about 1 million parameters)"
    )


def model_of(tmp_path: Path, **values: object) -> Path:
    """A directory with the config of a small model and a tokenizer without a template."""
    place = tmp_path / "model"
    place.mkdir(exist_ok=True)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 2048, "intermediate_size": 128}
    (place / "config.json").write_text(json.dumps({"model_type": "llama", **shape, **values}))
    (place / "tokenizer_config.json").write_text("{}")
    return place


def test_a_recipe_and_a_hostfile(tmp_path: Path) -> None:
    recipe = "experiment=sft_bloom_800m_alpaca_zh"
    found = said(f"paths.outputs={tmp_path}", recipe, stage="sft", devices=H100, hosts={"a": 8, "b": 4})
    assert found == (
        "run.name=sft_bloom_800m_alpaca_zh (from the overrides: the same command finds the run again)\n"
        "tokenizer.path=Langboat/bloom-800m-zh (the model's own)\n"
        "launch.num_devices=4 (slots of a host in the hostfile, the fewest)\n"
        "launch.num_nodes=2 (hosts in the hostfile)\n"
        "trainer.bf16=true (NVIDIA H100 80GB HBM3 computes in it)\n"
        "trainer.global_batch_size=256 (8 ranks x 4 sequences x 8 accumulated)"
    )


def test_the_model_that_was_trained_before_is_fine_tuned(tmp_path: Path) -> None:
    trained = tmp_path / "pretrain" / "default" / "model"
    trained.mkdir(parents=True)
    (trained / "config.json").write_text("{}")
    found = said(f"paths.outputs={tmp_path}", stage="sft").splitlines()
    assert found[1] == f"model.path={trained} (trained here, and the default while it is there)"
    assert f"tokenizer.path={trained} (the model's own)" in found
    assert not any(line.startswith(("model=", "model.init=")) for line in found)


def test_what_the_user_gave_is_not_said(tmp_path: Path) -> None:
    given = [
        f"paths.outputs={tmp_path}", "run.name=a", "model=llama_tiny", "data=stdlib", "trainer=tiny", "deepspeed=none",
        "tokenizer.path=x", "launch.num_devices=2", "trainer.bf16=false", "trainer.per_device_train_batch_size=2",
        "trainer.gradient_accumulation_steps=2",
    ]  # fmt: skip
    assert said(*given) == ""
    assert "launch.master_port=29500 (" in said(*given, "launch.node_rank=0", "launch.num_nodes=2")


@pytest.mark.parametrize(("value", "shown"), [(True, "a.b=true"), (None, "a.b=None"), (3, "a.b=3")])
def test_a_value_as_an_override_has_it(value: object, shown: str) -> None:
    assert lines([FilledIn("a.b", value, "why")]) == [f"filled in: {shown}  (why)"]
    assert lines([]) == []


def test_a_long_value_does_not_push_all_reasons_aside() -> None:
    long = FilledIn("model.path", "/" + "x" * 60, "why")
    assert lines([long, FilledIn("a", 1, "b")])[1] == "filled in: a=1  (b)"
