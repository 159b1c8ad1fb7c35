"""The tables of keys agree with the classes of the installed DeepSpeed, read from their source."""

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from trainyard.config import deepspeed_keys as keys

PACKAGE = Path(str(importlib.util.find_spec("deepspeed").origin)).parent  # type: ignore[union-attr]

ALIASED = "stage3_"


def fields(file: str, name: str) -> dict[str, str]:
    """The fields of a pydantic class with their annotations, those with an alias under both names."""
    tree = ast.parse((PACKAGE / file).read_text())
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    result: dict[str, str] = {}
    for item in found.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            result[item.target.id] = kind = ast.unparse(item.annotation)
            for keyword in item.value.keywords if isinstance(item.value, ast.Call) else []:
                if keyword.arg == "alias" and isinstance(keyword.value, ast.Constant):
                    result[str(keyword.value.value)] = kind
    return result


@pytest.mark.parametrize(
    ("file", "name", "table"),
    [
        ("runtime/zero/config.py", "DeepSpeedZeroConfig", keys.ZERO),
        ("runtime/zero/offload_config.py", "DeepSpeedZeroOffloadParamConfig", keys.ZERO["offload_param"]),
        ("runtime/zero/offload_config.py", "DeepSpeedZeroOffloadOptimizerConfig", keys.ZERO["offload_optimizer"]),
        ("runtime/zero/leaf_module_config.py", "DeepSpeedZeroLeafModuleConfig", keys.ZERO["leaf_module"]),
        ("runtime/zenflow/zenflow_config.py", "ZenFlowConfig", keys.ZERO["zenflow"]),
        ("runtime/precision_config.py", "DeepSpeedBF16Config", keys.BF16),
        ("runtime/precision_config.py", "DeepSpeedFP16Config", keys.FP16),
        ("comm/config.py", "CommsLoggerConfig", keys.TOP["comms_logger"]),
    ],
)
def test_the_keys_of_a_section_are_the_fields_of_its_class(file: str, name: str, table: dict[str, Any]) -> None:
    real = fields(file, name)
    old = set(keys.RENAMED) if name == "DeepSpeedZeroConfig" else set()
    assert set(table) == set(real) - old and old <= set(real)
    for key, kind in table.items():
        plain = real[key].removeprefix("Optional[").removesuffix("]")
        if plain in ("int", "float", "bool", "str"):
            assert kind.__name__ == plain, key


def test_every_key_of_the_top_stands_in_deepspeed_s_source() -> None:
    """A key that DeepSpeed no longer reads would be passed over without a word."""
    folders = ("runtime", "profiling", "monitor", "comm", "compile", "utils", "autotuning", "nebula")
    text = "\n".join(file.read_text() for folder in folders for file in (PACKAGE / folder).rglob("*.py"))
    gone = {"progressive_layer_drop", "bfloat16", "curriculum_learning", "dataloader_drop_last", "datastates"}
    missing = [key for key in keys.TOP if f'"{key}"' not in text and f"'{key}'" not in text]
    assert set(missing) <= gone | {"timers"}
    assert len(keys.TOP) > 50


def test_the_scheduler_s_params_are_those_of_its_class() -> None:
    tree = ast.parse((PACKAGE / "runtime" / "lr_schedules.py").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for name, table in keys.SCHEDULERS.items():
        (init,) = (item for item in classes[name].body if getattr(item, "name", "") == "__init__")
        assert isinstance(init, ast.FunctionDef)
        real = {argument.arg for argument in init.args.args} - {"self", "optimizer", "last_batch_iteration"}
        assert set(table) == real


def test_what_is_refused_is_known_and_has_a_reason() -> None:
    assert {key.partition(".")[0] for key in keys.REFUSED} <= set(keys.TOP)
    assert all(keys.REFUSED.values())
    assert set(keys.UNTESTED) < set(keys.OPTIMIZERS) and set(keys.SAME_SCHEDULE) < set(keys.SCHEDULERS)
