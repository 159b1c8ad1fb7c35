"""Prompts of files and of JSON objects."""

from pathlib import Path
from typing import Any

import pytest

from trainyard.errors import ConversationError, DataError
from trainyard.inference import prompts
from trainyard.inference.prompts import Prompt

HELLO = [{"role": "user", "content": "hello"}]


def test_a_text_file_has_a_prompt_on_each_line(tmp_path: Path) -> None:
    file = tmp_path / "asked.txt"
    file.write_bytes("\ufeffhello\r\n\n  \n{}".encode())
    wanted = [Prompt({"prompt": "hello"}, HELLO), Prompt({"prompt": "{}"}, [{"role": "user", "content": "{}"}])]
    assert prompts.read(str(file)) == wanted


def test_a_file_of_json_lines_keeps_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"prompt": "hello", "id": 7}\n{"messages": [{"role": "user", "content": "hello"}], "tools": []}')
    first, second = prompts.read(str(file))
    assert first == Prompt({"prompt": "hello", "id": 7}, HELLO)
    assert second.messages == HELLO and not second.tools
    assert second.row == {"messages": HELLO, "tools": []}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "must be"),
        ({}, "must be"),
        ({"prompt": "x", "messages": HELLO}, "must be"),
        ({"prompt": ""}, "must be text"),
        ({"prompt": 3}, "prompt=3: must be text"),
        ({"prompt": "\ud800"}, "half of a surrogate pair"),
        ({"messages": []}, "must be a list of messages"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "hi"}]}, "nothing to answer; leave it out"),
    ],
)
def test_what_is_no_prompt_is_refused_with_the_reason(row: Any, message: str) -> None:
    with pytest.raises(ConversationError, match=message):
        prompts.parse(row)


def test_bad_lines_are_named_by_their_numbers_and_the_rest_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"prompt": "x"}\n' + "3\n" * (prompts.SHOWN + 2))
    with pytest.raises(DataError) as caught:
        prompts.read(str(file))
    *named, last = caught.value.problems
    assert [problem.split(":")[1] for problem in named] == [str(number) for number in range(2, prompts.SHOWN + 2)]
    assert last == f"{file}: 2 more lines are bad"
