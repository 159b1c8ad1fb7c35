from trainyard.config import hydra
from trainyard.config.compose import to_config


def test_groups_are_the_folders_of_conf() -> None:
    assert {"data", "deepspeed", "experiment", "model", "sweep", "trainer"} <= set(hydra.groups())
    assert hydra.group_options("deepspeed") == ["none", "zero1", "zero2", "zero2_offload", "zero3", "zero3_offload"]


def test_a_node_has_the_schema_s_types() -> None:
    config = to_config(hydra.compose_node("pretrain", ["trainer.max_steps=3", "trainer.adam_beta1=1"]))
    assert (config.stage, config.trainer.max_steps) == ("pretrain", 3)
    assert vars(config.trainer)["adam_beta1"] == 1.0 and isinstance(vars(config.trainer)["adam_beta1"], float)


def test_the_reason_is_the_first_line_of_the_innermost_error() -> None:
    inner, outer = ValueError("the cause\nfull_key: x"), RuntimeError("Error merging override")
    outer.__cause__ = inner
    assert hydra.reason(outer) == "the cause"
    inner.__cause__ = ValueError("")
    assert hydra.reason(outer) == "the cause"
