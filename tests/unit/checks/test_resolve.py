from pathlib import Path

from trainyard.checks.resolve import chat_template, micro_batch, resolve
from trainyard.config.compose import compose
from trainyard.config.schema import ModelConfig
from trainyard.machine.devices import CPU
from unit.checking import H200, found, only, resolved


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


def test_fine_tuning_starts_from_the_model_that_was_pretrained_unless_one_is_named(tmp_path: Path) -> None:
    def model(stage: str, *overrides: str) -> ModelConfig:
        overrides = (f"paths.outputs={tmp_path}", *overrides)
        config = compose(stage, overrides)
        resolve(config, overrides, CPU, {})
        return config.model

    place = tmp_path / "pretrain" / "default" / "model"
    assert (model("sft").path, model("sft").init) == (None, "scratch")
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    assert (model("sft").path, model("sft").init) == (str(place), "pretrained")
    assert model("pretrain").path is None
    assert model("sft", "model=llama_tiny").path is None
    assert model("sft", "model.path=gpt2").path == "gpt2"


def test_an_empty_value_is_a_value_that_is_not_given(tmp_path: Path) -> None:
    assert resolved(tmp_path, "run.name=").run.name == "default"
    assert resolved(tmp_path, "model.init=").model.init == "scratch"
    assert resolved(tmp_path, "model.path=gpt2", "model.init=").model.init == "pretrained"
    assert found(tmp_path, "run.name=", "model.init=") == []


def test_a_chat_template_is_its_source(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{{ messages }}")
    assert chat_template(str(file)) == chat_template("{{ messages }}") == "{{ messages }}"
    assert "<|im_start|>" in str(chat_template("chatml"))
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("{{ documents }}")
    assert chat_template("rag", str(tmp_path)) == "{{ documents }}"
    assert chat_template("gar", str(tmp_path)) == chat_template("gar") == "gar"
    assert (chat_template(None), chat_template("no such template")) == (None, "no such template")


def test_a_model_in_the_home_directory_is_found_by_its_full_path(tmp_path: Path) -> None:
    config = resolved(tmp_path, "model.path='~/base'", "tokenizer.path='~/tokenizer'")
    assert (config.model.path, config.tokenizer.path) == (str(Path.home() / "base"), str(Path.home() / "tokenizer"))
