import dataclasses
from typing import Any

from trainyard.config.schema import TrainerConfig
from trainyard.config.training_arguments import MANAGED, OWN_FIELDS, argument_fields, given_arguments, trainer_schema


def test_names_and_defaults_agree_with_the_installed_class() -> None:
    from transformers import TrainingArguments

    real = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert set(argument_fields()) == real
    assert len(real) > 80
    assert set(MANAGED) <= real
    declared = {field.name for field in dataclasses.fields(TrainerConfig)} - set(OWN_FIELDS)
    assert declared <= real


def test_types_and_choices_are_read_from_annotations() -> None:
    arguments = argument_fields()
    assert arguments["learning_rate"].type is float
    assert arguments["max_steps"].type is int
    assert arguments["eval_steps"].type is float
    assert arguments["bf16"].type is bool
    assert arguments["debug"].type is Any
    assert arguments["eval_strategy"].choices == ("no", "steps", "epoch")
    assert "cosine" in arguments["lr_scheduler_type"].choices


def test_unset_settings_are_left_to_the_library() -> None:
    given = given_arguments(trainer_schema()(global_batch_size=8, adam_beta2=0.95))  # type: ignore[call-arg]
    assert given["adam_beta2"] == 0.95
    assert "adam_beta1" not in given
    assert "global_batch_size" not in given


def test_what_the_factory_sets_itself_cannot_be_set_by_a_user_too() -> None:
    """Every keyword that training/arguments.py writes out is managed: a user's value would be a second one."""
    import ast

    from conftest import ROOT

    tree = ast.parse((ROOT / "trainyard" / "training" / "arguments.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (call,) = (node for node in calls if getattr(node.func, "id", "") == "TrainingArguments")
    keywords = {keyword.arg for keyword in call.keywords if keyword.arg}
    assert len(keywords) >= 10
    assert keywords <= set(MANAGED)
