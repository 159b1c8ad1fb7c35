"""Overrides that are wrong: the sentences in which they are refused."""

from pathlib import Path

import pytest

from trainyard.config import mistakes
from trainyard.config.compose import compose
from trainyard.errors import ConfigError

SENTENCES = {
    "run.name=中文": "Hydra reads such text in quotes only; write 'run.name=\"中文\"'",
    "data.sources=[{path=x}]": (
        "must be text, a list as [a, b] or a mapping as {key: value}; text with other marks in quotes"
    ),
    "run.name=range(1": "a bracket or a quote is not closed; if it is text, write 'run.name=\"range(1\"'",
    "run.name=a,b": "several values need -m; for text write 'run.name=\"a,b\"'",
    "model=llama_tiny,llama_8b": "several values need -m",
    "~trainer.learning_rate": (
        "a setting has a value always; give it another one by trainer.learning_rate=..., or null where it may be unset"
    ),
    "~peft": "the command chooses no file of the group; leave it out",
    "+trainer.learning_rate=1": "the setting has a value already; leave out the +",
    "+trainer=llm": "the command has a file of this group already; write trainer=llm",
    "++data={blok_size: 1}": "a group takes the name of a file; give its settings one by one, as data.name=value",
    "data.sources=[{path: a, format: text, pth: 3}]": "a source has no pth. Did you mean path?",
    "data.sources=[a]": "must be a list of sources, as [{path: corpus.jsonl, format: jsonl}]",
    "run.allow_changes=model": "must be a list, as run.allow_changes=[model]",
    "=3": "there is no setting . --help lists the settings",
    "tokenizer.api_key=中": "there is no setting tokenizer.api_key. Did you mean tokenizer.add_tokens?",
}


@pytest.mark.parametrize("override", SENTENCES)
def test_each_mistake_has_a_sentence_and_none_is_the_parsers(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("pretrain", [override])
    (message,) = caught.value.problems
    shown = override.replace("中", "***") if "api_key" in override else override
    assert message == f"{shown}: {SENTENCES[override]}"


def test_a_group_without_a_file_is_told_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match=r"experiment=null: name a file of conf/experiment, .* There are: llama_8b"):
        compose("pretrain", ["experiment=null"])


MISSPELLED = {
    "+foo=1": "foo",
    "+trainer.lerning_rate=1": "trainer.lerning_rate. Did you mean trainer.learning_rate?",
    "++trainer.learning_rte=1": "trainer.learning_rte. Did you mean trainer.learning_rate?",
    "+data.blok_size=1": "data.blok_size. Did you mean data.block_size?",
    "++run.nam.deep=1": "run.nam.deep. Did you mean run.name?",
    "+data.sources.0.pth=x": "data.sources.0.pth. Did you mean data.sources?",
    "model@foo=llama_tiny": "model@foo. Did you mean model?",
    "+trainer.output_dir=x": "",
}


@pytest.mark.parametrize("override", MISSPELLED)
def test_a_sign_before_a_misspelled_setting_does_not_make_it_one(override: str) -> None:
    wanted = MISSPELLED[override]
    for beside in ([], ["trainer.max_steps=x"]):
        with pytest.raises(ConfigError) as caught:
            compose("pretrain", [override, *beside])
        assert len(caught.value.problems) == 1 + len(beside)
        message = caught.value.problems[0]
        assert message.startswith(
            f"{override}: there is no setting {wanted}" if wanted else f"{override}: trainyard sets"
        )


def test_what_may_be_added_is_added() -> None:
    given = [
        "+trainer.adam_beta1=0.8",
        "++data.block_size=64",
        "+run.name=x",
        "trainer.lr_scheduler_kwargs.min_lr=1e-5",
    ]
    config = compose("pretrain", [*given, "data.sources.0.path=x", "trainer={weight_decay: 0.5}"])
    assert vars(config.trainer)["adam_beta1"] == 0.8 and vars(config.trainer)["weight_decay"] == 0.5
    assert vars(config.trainer)["lr_scheduler_kwargs"] == {"min_lr": 1e-5}
    assert (config.data.block_size, config.data.sources[0].path, config.run.name) == (64, "x", "x")


def test_a_recipe_in_another_folder_is_found_and_its_misspelled_settings_too(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    recipe = tmp_path / "experiment" / "mine.yaml"
    recipe.write_text("# @package _global_\ntrainer: {max_steps: 7}\n")
    searched = f"hydra.searchpath=['file://{tmp_path}']"
    assert compose("pretrain", [searched, "experiment=mine"]).trainer.max_steps == 7
    for override, message in (
        ("experiment=mien", "experiment=mien: there is no conf/experiment/mien.yaml. Did you mean mine?"),
        ("trainer.max_steps=x", "trainer.max_steps=x: must be a whole number, got 'x'"),
    ):
        with pytest.raises(ConfigError) as caught:
            compose("pretrain", [searched, "experiment=mine", override] if "max" in override else [searched, override])
        assert caught.value.problems == [message]
    recipe.write_text("# @package _global_\ntrainer: {max_stepz: 7}\n")
    with pytest.raises(ConfigError) as caught:
        compose("pretrain", [searched, "experiment=mine"])
    assert caught.value.problems == [
        "experiment=mine: In 'experiment/mine': Key 'max_stepz' not in 'TrainerSettings', at trainer.max_stepz"
    ]


def test_names_of_groups_are_the_folders_of_conf() -> None:
    assert mistakes.names_a_group("trainer") and not mistakes.names_a_group("") and not mistakes.names_a_group("run")
