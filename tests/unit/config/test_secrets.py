"""Secrets are masked in files and messages, and a masked secret is not a changed setting."""

import shlex
from pathlib import Path

import pytest

from trainyard.checks import resume
from trainyard.checks.resolve import resolve
from trainyard.config import overrides as config_overrides
from trainyard.config import saved
from trainyard.config.compose import compose
from trainyard.config.secrets import masked, redact
from trainyard.machine.devices import CPU


def test_a_secret_that_was_not_written_down_is_no_drift(tmp_path: Path) -> None:
    overrides = [f"paths.outputs={tmp_path}", "data.template_variables.api_key=sk-1"]
    now = compose("pretrain", overrides)
    resolve(now, overrides, CPU, {})
    saved.save(now, tmp_path / "config.yaml")
    before = saved.load(tmp_path / "config.yaml")
    assert before.data.template_variables == {"api_key": "***"}
    assert resume.drift(before, now) == []


def test_secrets_are_masked_and_tokens_to_train_on_are_not() -> None:
    values = {"api_key": "s3cret", "hub_token": "x", "max_tokens": "7", "deep": [{"password": "p", "tokenizer": "t"}]}
    assert redact(values) == {
        "api_key": "***",
        "hub_token": "***",
        "max_tokens": "7",
        "deep": [{"password": "***", "tokenizer": "t"}],
    }


def test_an_override_is_masked_by_its_key_or_by_a_key_within_its_value() -> None:
    assert masked("data.template_variables.api_key=sk-1") == "data.template_variables.api_key=***"
    assert masked("data.template_variables={api_key: sk-1}") == "data.template_variables=***"
    assert masked("tokenizer.path=token") == "tokenizer.path=token"


@pytest.mark.parametrize(
    ("override", "kept"),
    [
        ("trainer.learning_rate=1e-3", "trainer.learning_rate=1e-3"),
        ("++tracking.api_key=abc", "++tracking.api_key=***"),
        ("+password=abc", "+password=***"),
        ("trainer.hub_token=", "trainer.hub_token="),
        ("model.config={a: 1, 'hub_token': abc}", "model.config=***"),
        ("tokenizer.add_tokens=['<|q|>']", "tokenizer.add_tokens=['<|q|>']"),
        (
            "data.sources=[{path: 'https://host/a', format: text}]",
            "data.sources=[{path: 'https://host/a', format: text}]",
        ),
        ("~experiment", "~experiment"),
    ],
)
def test_secrets_of_a_command_are_masked(override: str, kept: str) -> None:
    assert masked(override) == kept
    assert shlex.split(config_overrides.command("sft", [override])) == ["bash", "launch/sft.sh", kept]
