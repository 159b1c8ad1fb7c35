"""The description of a finished part: it comes back, and a file with other content is no description."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from trainyard.data.preparation.description import Description

PART = Description([3, 4], 1, 99, None, "tokenizers", "the only one", (1.0, 2.5), 640)


def test_it_comes_back_and_keys_of_another_version_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "part-00000.json"
    PART.write(file)
    assert Description.read(file) == PART
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mood": "good"}))
    assert Description.read(file) == PART


@pytest.mark.parametrize("without", ["span", "documents", "arrow_bytes"])
def test_a_file_that_lacks_a_key_is_no_description(tmp_path: Path, without: str) -> None:
    file = tmp_path / "part-00000.json"
    fields = asdict(PART)
    del fields[without]
    file.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=without):
        Description.read(file)


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"span": 3}', '{"span": [1]}'])
def test_a_file_with_something_else_is_no_description(tmp_path: Path, text: str) -> None:
    file = tmp_path / "part-00000.json"
    file.write_text(text)
    with pytest.raises(ValueError):  # by which Parts.finished makes the part again
        Description.read(file)
