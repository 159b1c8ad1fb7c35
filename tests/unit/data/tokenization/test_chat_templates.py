"""The chat templates of a tokenizer: where libraries put them, by name, and the one that is chosen."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.data.tokenization.chat_templates import beside, chosen, processors

SEVERAL = {"default": "D{{ 1 }}", "tool_use": "T{{ 1 }}", "rag": "R{{ 1 }}"}


@pytest.fixture
def directory(tmp_path: Path, tokenizer_path: str) -> Path:
    tokenizers.load(tokenizer_path).save_pretrained(tmp_path)
    return tmp_path


def write(file: Path, **values: Any) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | values))


def test_several_templates_are_found_as_transformers_saves_them_and_as_it_did(directory: Path) -> None:
    tokenizer = tokenizers.load(str(directory))
    assert (tokenizer.chat_template, beside(directory)) == (None, {})
    tokenizer.chat_template = SEVERAL
    tokenizer.save_pretrained(directory)
    assert (directory / "additional_chat_templates" / "rag.jinja").is_file()
    assert beside(directory) == tokenizers.load(str(directory)).chat_template == SEVERAL
    for file in (directory / "additional_chat_templates").iterdir():
        file.unlink()
    (directory / "chat_template.jinja").unlink()
    listed = [{"name": name, "template": source} for name, source in SEVERAL.items()]
    write(directory / "tokenizer_config.json", chat_template=listed)
    assert beside(directory) == tokenizers.load(str(directory)).chat_template == SEVERAL


@pytest.mark.parametrize(("kept", "wanted"), [
    ("D{{ 1 }}", "D{{ 1 }}"),
    (SEVERAL, SEVERAL),
    ([{"name": "default", "template": "D{{ 1 }}"}], "D{{ 1 }}"),
])  # fmt: skip
def test_a_template_in_the_file_of_a_processor_is_the_tokenizers(directory: Path, kept: Any, wanted: Any) -> None:
    write(directory / "chat_template.json", chat_template=kept)
    assert tokenizers.load(str(directory)).chat_template == wanted
    assert beside(directory).get("default") == "D{{ 1 }}"
    write(directory / "tokenizer_config.json", chat_template="own{{ 1 }}")
    assert tokenizers.load(str(directory)).chat_template == "own{{ 1 }}" == beside(directory)["default"]


def test_without_a_file_there_is_no_template(tmp_path: Path) -> None:
    assert processors(None) is None
    assert beside(tmp_path) == {}


def test_a_name_stands_for_a_template_and_a_source_for_itself(directory: Path) -> None:
    assert [chosen(SEVERAL, each) for each in (None, "rag", "{{ x }}")] == [SEVERAL, "R{{ 1 }}", "{{ x }}"]
    assert [chosen("own", each) for each in (None, "rag")] == ["own", "rag"]
    tokenizer = tokenizers.load(str(directory))
    tokenizer.chat_template = SEVERAL
    tokenizer.save_pretrained(directory)
    assert tokenizers.load(str(directory), chat_template="rag").chat_template == "R{{ 1 }}"


def test_further_templates_are_files_of_the_tokenizer(directory: Path) -> None:
    before = tokenizers.local_files(str(directory))
    (directory / "additional_chat_templates").mkdir()
    further = directory / "additional_chat_templates" / "rag.jinja"
    further.write_text("x")
    assert set(tokenizers.local_files(str(directory))) - {*before} == {further}
