"""The one shape of a conversation, whatever format it was read from."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Message = dict[str, Any]
"""A message as chat templates know it: `role` (system, developer, user, assistant or tool) and `content`, one string.
An assistant's message may have `tool_calls`, functions with a name and arguments, and `reasoning_content`."""


@dataclass(frozen=True)
class Conversation:
    """What is said, and which messages the data itself marks as learned.

    Attributes:
        messages: in the manner of the OpenAI API.
        learn: for each message whether the data wants it learned; None leaves it to the setting data.learn.
        tools: the functions that may be called, as JSON schemas; None when there are none.
    """

    messages: list[Message]
    learn: list[bool | None]
    tools: list[Any] | None = None

    def __len__(self) -> int:
        """Characters of all contents."""
        return sum(len(message["content"]) for message in self.messages)

    @property
    def is_empty(self) -> bool:
        """Do user, assistant and tools say nothing but white space, think nothing and call nothing?"""
        return not any(
            message.get("tool_calls") or message["content"].strip() or message.get("reasoning_content", "").strip()
            for message in self.messages
            if message["role"] not in ("system", "developer")
        )

    @cached_property
    def serialized(self) -> bytes:
        """The whole conversation as JSON, for measuring and hashing.

        Raises:
            UnicodeEncodeError: a text has half of a surrogate pair.
        """
        return json.dumps([self.messages, self.learn, self.tools], ensure_ascii=False).encode("utf-8")
