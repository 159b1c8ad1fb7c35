import pytest
from conftest import ROOT

from trainyard.config.compose import compose
from trainyard.errors import ConfigError


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose("pretrain", overrides)
    return caught.value.problems


CHAT_DATA = ("stdlib_chat", "belle", "alpaca_gpt4_zh")


def test_every_group_option_composes() -> None:
    options = [(group.name, file.stem) for group in (ROOT / "conf").iterdir() for file in group.glob("*.yaml")]
    assert len(options) >= 15
    for group, name in options:
        extra = ["model.path=gpt2"] if name == "from_path" else []
        stage = "sft" if group == "peft" or name in (*CHAT_DATA, "lora") or name.startswith("sft_") else "pretrain"
        assert compose(stage, [f"{group}={name}", *extra]).stage == stage


def test_experiments_carry_the_command_that_runs_them() -> None:
    files = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
    assert len(files) >= 5
    for file in files:
        text = file.read_text()
        stage = "sft" if file.stem.startswith("sft_") else "pretrain"
        assert f"bash launch/{stage}.sh experiment={file.stem}" in text
        assert text.startswith("# @package _global_\n")


def test_all_mistakes_are_reported_at_once_with_the_nearest_name() -> None:
    found = problems(
        "trainer.lerning_rate=1", "trainer.max_steps=x", "deepspeed=zer3", "data.blocksize=1", "trainer.seed=1", "foo"
    )
    assert found[0] == "deepspeed=zer3: there is no conf/deepspeed/zer3.yaml. Did you mean zero3?"
    assert found[1].endswith("there is no setting trainer.lerning_rate. Did you mean trainer.learning_rate?")
    assert found[2] == "trainer.max_steps=x: must be a whole number, got 'x'"
    assert found[3].endswith("Did you mean data.block_size?")
    assert found[4] == "trainer.seed=1: trainyard sets this itself; set run.seed"
    assert found[5] == "foo: overrides have the form key=value"
    assert len(found) == 6


def test_a_name_that_resembles_nothing_points_to_help() -> None:
    assert "--help" in problems("zzzqqq=1")[0]


def test_unknown_training_arguments_are_accepted_by_their_own_names_only() -> None:
    assert vars(compose("pretrain", ["trainer.adam_beta1=0.8"]).trainer)["adam_beta1"] == 0.8
    assert "adam_beta1" in problems("trainer.adam_beta_1=0.8")[0]


def test_the_stage_is_the_commands() -> None:
    assert "the command decides it" in problems("stage=sft")[0]


def test_only_model_config_itself_is_open() -> None:
    assert "there is no setting model.configs" in problems("model.configs=1")[0]
    assert compose("pretrain", ["model.config.rope_theta=5.0"]).model.config == {"rope_theta": 5.0}


def test_a_secret_in_a_wrong_override_is_not_shown() -> None:
    (message,) = problems("tokenizer.api_key=sk-1")
    assert message.startswith("tokenizer.api_key=***: there is no setting tokenizer.api_key.")
