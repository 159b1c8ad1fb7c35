import pytest

from trainyard.config.defaults import OWN, default_options, option_values, own_defaults
from trainyard.config.stages import STAGES


def test_the_options_of_a_command_without_overrides() -> None:
    assert default_options("sft") == {
        "model": "llama_tiny", "data": "stdlib_chat", "trainer": "tiny", "deepspeed": "zero2", "peft": "none",
        "tracking": "swanlab", "launch": "auto",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "implied"),
    [
        ([], []),
        (["trainer.max_steps=5", "data.block_size=64", "tokenizer.path=x"], []),
        (["model.path=x"], ["trainer=own_sft", "data.block_size=null"]),
        (["data.sources=[]"], ["trainer=own_sft", "data=own_sft"]),
        (["model.path=x", "data.sources=[]"], ["trainer=own_sft", "data=own_sft"]),
        (["model=llama_8b"], ["trainer=own_sft", "data.block_size=null"]),
        (["model=llama_tiny"], []),
        (["model.path=null"], []),
        (["data=belle"], ["trainer=own_sft"]),
        (["model=from_path", "+model.path=x", "trainer=tiny", "data=belle"], []),
        (["experiment=sft_qwen3_1_7b_belle", "model.path=x", "data.sources=[]"], []),
    ],
)
def test_nothing_of_the_example_is_for_a_model_or_data_of_one_s_own(overrides: list[str], implied: list[str]) -> None:
    assert own_defaults("sft", overrides) == implied


def test_values_of_an_option_by_their_names() -> None:
    values = option_values("trainer", "own_pretrain")
    assert values["trainer.weight_decay"] == 0.1 and values["trainer.learning_rate"] is None
    example = [option_values(group, default_options(stage)[group]) for stage in STAGES for group in ("data", "trainer")]
    own = [option_values(group, OWN.format(stage=stage)) for stage in STAGES for group in ("data", "trainer")]
    assert all(set(file) for file in (*example, *own))
    for theirs, ours in zip(example, own, strict=True):  # nothing of the example is left to a default of the schema
        decided = {"data.sources", "trainer.max_steps", "trainer.logging_steps", "trainer.weight_decay"}
        assert set(theirs) - set(ours) <= {*decided, "trainer.adam_beta2"}
