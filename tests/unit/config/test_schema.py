"""The settings: each has a meaning, and the schema's values are those of a command that gives none."""

import dataclasses

import pytest
from conftest import ROOT

from trainyard.config import schema
from trainyard.config.schema import ARCHITECTURE, Config, ModelConfig
from unit.fields import undescribed


def test_every_setting_and_section_has_a_docstring() -> None:
    count, without = undescribed(ROOT / "trainyard" / "config" / "schema.py", exempt={"Config"})
    assert without == [] and count > 70


def test_the_architecture_is_fields_of_the_model_that_are_unset() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
    assert {fields[name] for name in ARCHITECTURE} == {None}
    assert set(fields) - set(ARCHITECTURE) == {
        "path", "init", "model_type", "config", "attn_implementation", "trust_remote_code",
    }  # fmt: skip


def test_only_the_stage_has_to_be_given() -> None:
    with pytest.raises(TypeError, match="stage"):
        Config()  # type: ignore[call-arg]
    first, second = Config(stage="pretrain"), Config(stage="pretrain")
    assert first == second
    first.data.sources.append(schema.SourceConfig(path="a.txt", format="text"))
    assert second.data.sources == []  # no section is shared
