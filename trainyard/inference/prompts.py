"""The prompts of a file: text with one per line, or JSON lines with `prompt` or `messages`."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from trainyard.data.conversations import formats
from trainyard.data.conversations.conversation import Message
from trainyard.data.conversations.other_kinds import MEDIA
from trainyard.errors import ConversationError, DataError

SHOWN = 10
"""At most this many bad lines are named."""


class Prompt(NamedTuple):
    """A conversation to be answered."""

    row: dict[str, Any]
    """The object that the file holds; the answer is written beside its keys."""
    messages: list[Message]
    tools: list[Any] | None = None


def simple(text: str) -> Prompt:
    """A prompt of one message of the user."""
    return Prompt({"prompt": text}, [{"role": "user", "content": text}])


def read(file: str) -> list[Prompt]:
    """The prompts of a file. One named .jsonl or .json has an object per line, any other a prompt per line.

    Raises:
        DataError: the file cannot be read, holds no prompt, or has bad lines, of which the first SHOWN are named.
    """
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--prompts {file}: it cannot be read: {error}. Give a file of UTF-8 text") from error
    is_json = Path(file).suffix in (".jsonl", ".json")
    found: list[Prompt] = []
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(parse(json.loads(line)) if is_json else simple(line.rstrip("\r")))
        except ValueError as error:
            problems.append(f"{file}:{number}: {error}")
    if problems:
        more = [f"{file}: {len(problems) - SHOWN:,} more lines are bad"] * (len(problems) > SHOWN)
        raise DataError(*problems[:SHOWN], *more)
    if not found:
        raise DataError(f"--prompts {file}: there is no prompt in it; write one per line")
    return found


def parse(row: Any) -> Prompt:
    """The prompt of an object with `prompt`, or with `messages` and perhaps `tools`.

    Raises:
        ConversationError: the object is of another form, or its last message is already an answer.
    """
    if not isinstance(row, dict) or ("prompt" in row) == ("messages" in row):
        raise ConversationError('must be {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}')
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConversationError("half of a surrogate pair in it, which is no character") from error
    if "prompt" in row:
        if not isinstance(row["prompt"], str) or not row["prompt"]:
            raise ConversationError(f"prompt={row['prompt']!r}: must be text; a conversation goes under messages")
        return simple(row["prompt"])._replace(row=row)
    if not isinstance(row["messages"], list) or not row["messages"]:
        raise ConversationError(f"messages={row['messages']!r}: must be a list of messages")
    answer = {"role": "assistant", "content": ""}  # stands for the answer that will be generated
    columns = {name: name for name in formats.COLUMNS["messages"]}
    given = {name: value for name, value in row.items() if name in (*columns, *MEDIA)}
    given["messages"] = [*row["messages"], answer]
    conversation = formats.parse(given, "messages", columns)
    messages = conversation.messages[:-1]
    if messages[-1]["role"] == "assistant":
        raise ConversationError("the last message is the assistant's, so there is nothing to answer; leave it out")
    return Prompt(row, messages, conversation.tools)
