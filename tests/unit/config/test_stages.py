import ast
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from trainyard.config.schema import DataConfig
from trainyard.config.stages import STAGES, Stage
from trainyard.data.conversations import formats
from trainyard.data.sources import files


def strings(tree: ast.AST) -> list[ast.Constant]:
    """The string constants of a file, without its docstrings."""
    expressions = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node for node in constants if id(node) not in expressions]


def test_only_the_table_spells_a_stage_s_name() -> None:
    found = {
        str(file.relative_to(ROOT)): {node.value for node in strings(ast.parse(file.read_text("utf-8")))} & set(STAGES)
        for file in (ROOT / "trainyard").rglob("*.py")
    }
    assert len(found) > 120
    assert {file: names for file, names in found.items() if names} == {"trainyard/config/stages.py": set(STAGES)}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_row_names_what_is_there(stage: Stage) -> None:
    for module in (f"{stage.module}.__main__", stage.rank_module, stage.encoder_module):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    assert (ROOT / "conf" / f"{stage.name}.yaml").is_file()
    assert (ROOT / "launch" / f"{stage.name}.sh").is_file()
    assert set(stage.decisive) <= {field.name for field in dataclasses.fields(DataConfig)}
    assert min(stage.longest_block, stage.global_batch, stage.tuning_rate) > 0
    assert stage.default_model is None or stage.default_model.partition("/")[0] in STAGES
    assert "outputs/x" in stage.next("outputs/x")


@pytest.mark.parametrize(("installed", "printed"), [(False, "python -m trainyard chat m"), (True, "trainyard chat m")])
def test_the_next_command_is_one_that_works_here(tmp_path: Path, installed: bool, printed: str) -> None:
    """A wheel has its configs in a folder of the package; its command is on the path."""
    for file in ("__init__.py", "start.py", "config/__init__.py", "config/stages.py"):
        copy = tmp_path / "trainyard" / file
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "trainyard" / file, copy)
    if installed:
        (tmp_path / "trainyard" / "_shipped").mkdir()
    code = "from trainyard.config.stages import STAGES; print(STAGES['sft'].next('m'))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.stdout == f"{printed}\n", done.stderr


def test_every_format_that_can_be_read_belongs_to_a_stage() -> None:
    assert STAGES["pretrain"].formats == files.FORMATS
    assert STAGES["sft"].formats == formats.SOURCES


def test_only_conversations_depend_on_a_chat_template_and_have_a_loss_mask() -> None:
    assert [stage.name for stage in STAGES.values() if stage.uses_chat_template] == ["sft"]
    assert [stage.name for stage in STAGES.values() if stage.masked] == ["sft"]
