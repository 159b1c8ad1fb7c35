"""What follows from a model of one's own: rates, lengths, batches and templates."""

import json
from pathlib import Path

import pytest

from trainyard.checks.own_values import fitting_micro_batch
from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.config.schema import Config
from trainyard.machine.devices import CPU, Devices

SIZES = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 512},
    "1.5b": {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
             "intermediate_size": 8960, "vocab_size": 151936, "tie_word_embeddings": True},
    "8b": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
           "intermediate_size": 14336, "vocab_size": 128256},
}  # fmt: skip
TEXT = "data.sources=[{path: a.txt, format: text}]"
CHATS = "data.sources=[{path: a.jsonl, format: messages}]"


def model_of(tmp_path: Path, size: str, context: int = 32768, template: str | None = "{{ messages }}") -> str:
    values = {"model_type": "llama", "max_position_embeddings": context, **SIZES[size]}
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template} if template else {}))
    return f"model.path={tmp_path}"


def resolved(stage: str, *overrides: str, devices: Devices = CPU) -> Config:
    config = compose(stage, overrides)
    resolve(config, overrides, devices, {})
    return config


@pytest.mark.parametrize(
    ("stage", "size", "overrides", "rate"),
    [
        ("sft", "tiny", [], 2e-5), ("sft", "1.5b", [], 2e-5), ("sft", "8b", [], 1.2e-5),
        ("sft", "1.5b", ["peft=lora"], 2e-4), ("sft", "8b", ["peft=lora"], 1.2e-4),
        ("pretrain", "1.5b", [], 2e-5), ("pretrain", "1.5b", ["model.init=scratch"], 2e-4),
        ("pretrain", "8b", ["model.init=scratch"], 1.2e-4), ("pretrain", "tiny", ["model.init=scratch"], 1e-3),
        ("sft", "8b", ["trainer.learning_rate=3e-6"], 3e-6),
    ],
)  # fmt: skip
def test_the_learning_rate_follows_from_size_and_method(
    tmp_path: Path, stage: str, size: str, overrides: list[str], rate: float
) -> None:
    sources = {"sft": CHATS, "pretrain": TEXT}[stage]
    assert resolved(stage, model_of(tmp_path, size), sources, *overrides).trainer.learning_rate == pytest.approx(rate)


@pytest.mark.parametrize(
    ("stage", "context", "length"),
    [("sft", 32768, 4096), ("sft", 2048, 2048), ("pretrain", 32768, 2048), ("pretrain", 1024, 1024)],
)
def test_sequences_are_as_long_as_the_model_takes_up_to_a_bound(
    tmp_path: Path, stage: str, context: int, length: int
) -> None:
    config = resolved(stage, model_of(tmp_path, "tiny", context), {"sft": CHATS, "pretrain": TEXT}[stage])
    assert config.data.block_size == length
    assert (config.trainer.max_steps, config.trainer.num_train_epochs) == (-1, 1)


def test_a_model_of_one_s_own_on_the_examples_text(tmp_path: Path) -> None:
    config = resolved("sft", model_of(tmp_path, "tiny"))
    assert (config.data.block_size, config.data.chat_template) == (4096, None)
    assert config.trainer.max_steps == -1 and config.data.sources[0].format == "docstrings"


def test_text_of_one_s_own_for_the_examples_model() -> None:
    config = resolved("pretrain", TEXT)
    assert (config.model.hidden_size, config.data.block_size, config.trainer.learning_rate) == (192, 1024, 1e-3)


def test_the_example_keeps_its_values() -> None:
    config = resolved("sft")
    assert (config.data.block_size, config.trainer.max_steps, config.trainer.learning_rate) == (256, 600, 1.5e-3)
    assert "<|im_start|>" in str(config.data.chat_template)


def test_a_chosen_option_and_a_recipe_decide_for_themselves() -> None:
    chosen = resolved("pretrain", TEXT, "trainer=tiny", "data=seq_monkey")
    assert (chosen.trainer.max_steps, chosen.data.block_size) == (600, 2048)
    recipe = resolved("sft", "experiment=sft_qwen3_1_7b_belle", CHATS)
    assert (recipe.trainer.learning_rate, recipe.trainer.warmup_steps, recipe.data.block_size) == (1e-5, 100, 2048)
    larger = resolved("pretrain", "model=llama_8b")
    assert (larger.trainer.learning_rate, larger.trainer.max_steps, larger.data.block_size) == (1.2e-4, -1, 2048)


def test_the_template_is_the_tokenizers_own_or_chatml_where_it_has_the_tokens(tmp_path: Path) -> None:
    assert resolved("sft", model_of(tmp_path, "tiny"), CHATS).data.chat_template is None
    model = model_of(tmp_path, "tiny", template=None)
    assert resolved("sft", model, CHATS).data.chat_template is None  # the checks name it
    added = "tokenizer.add_tokens=['<|im_start|>','<|im_end|>']"
    assert "<|im_start|>" in str(resolved("sft", model, CHATS, added).data.chat_template)
    assert "<|im_start|>" not in str(resolved("sft", model, CHATS, "data.chat_template=plain").data.chat_template)
    assert "<|im_start|>" in str(resolved("sft", CHATS).data.chat_template)  # a tokenizer that is trained here
    assert resolved("pretrain", TEXT).data.chat_template is None


@pytest.mark.parametrize(("ranks", "batch"), [(1, 16), (2, 16), (3, 15), (8, 16), (32, 32)])
def test_the_batch_is_near_the_stages_and_divides(tmp_path: Path, ranks: int, batch: int) -> None:
    config = resolved("sft", model_of(tmp_path, "tiny"), CHATS, f"launch.num_devices={ranks}")
    trainer = config.trainer
    assert trainer.global_batch_size == batch
    assert batch == ranks * (trainer.per_device_train_batch_size or 0) * (trainer.gradient_accumulation_steps or 0)
    given = resolved("sft", model_of(tmp_path, "tiny"), CHATS, "trainer.per_device_train_batch_size=3")
    assert (given.trainer.global_batch_size, given.trainer.gradient_accumulation_steps) == (18, 3)
    both = ["trainer.per_device_train_batch_size=3", "trainer.gradient_accumulation_steps=5"]
    assert resolved("sft", model_of(tmp_path, "tiny"), CHATS, *both).trainer.global_batch_size == 30


def test_the_micro_batch_is_what_fits_into_the_device(tmp_path: Path) -> None:
    def micro(gib: int | None, *overrides: str, size: str = "1.5b") -> int:
        devices = Devices("cuda", 8, "GPU", True, tuple(range(8)), None if gib is None else gib << 30)
        config = resolved("sft", model_of(tmp_path, size), CHATS, *overrides, devices=devices)
        return fitting_micro_batch(config, devices)

    assert micro(None) == 8
    assert (micro(24), micro(80), micro(140)) == (1, 4, 8)
    assert micro(80, "peft=lora", size="8b") < micro(80, "peft=lora", "trainer.gradient_checkpointing=true", size="8b")
    assert micro(80, "deepspeed=none", size="8b") == 1  # the state alone is more
    devices = Devices("cuda", 1, "GPU", True, (0,), 80 << 30)
    config = resolved("sft", model_of(tmp_path, "1.5b"), CHATS, devices=devices)
    assert config.trainer.per_device_train_batch_size in (2, 4)
