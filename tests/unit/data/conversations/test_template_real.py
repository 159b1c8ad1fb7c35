"""Real conversations and a real template: all of them masked and verified, or refused with a reason."""

import json
from collections import Counter
from typing import Any

import pytest
from conftest import SHARED_DATA

from trainyard.data.conversations.conversation import Conversation, Message
from trainyard.data.conversations.formats import COLUMNS, parse
from trainyard.data.conversations.template import ChatTemplate
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.errors import ConversationError
from unit.template_cases import shares

REAL = {  # the file: its format, then how many are masked, how many of those have tools, and how many answers they have
    "alpaca_zh_demo.json": ("alpaca", 1000, 0, 1000),
    "glaive_toolcall_zh_demo.json": ("sharegpt", 300, 200, 940),
    "identity.json": ("alpaca", 91, 0, 91),
    "v1_sft_demo.jsonl": ("messages", 500, 0, 500),
}


def spoken(message: Message) -> str:
    """An assistant's message as minimind's template writes it, with the token that closes it."""
    calls = [call["function"] for call in message.get("tool_calls") or []]
    written = "".join(
        f'<tool_call>\n{{"name": "{call["name"]}", "arguments": {json.dumps(call["arguments"], ensure_ascii=False)}}}'
        f"\n</tool_call>"
        for call in calls
    )
    return message["content"].lstrip("\n") + written + "<|im_end|>"


def check(tokenizer: Any, template: ChatTemplate, conversation: Conversation) -> int:
    """What is learned is what the assistant says, and the rest what transformers renders; how many answers that are."""
    messages = conversation.messages
    got = shares(template.fragments(conversation))
    how = {"tools": conversation.tools, "tokenize": False}
    assert "".join(got) == tokenizer.apply_chat_template(messages, **how)
    assert "".join(got[:-2]) == tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, **how)
    answers = [spoken(message) for message in messages if message["role"] == "assistant"]
    assert got[1::2] == answers
    return len(answers)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="../shared/data is not on this machine")
@pytest.mark.parametrize("file", REAL)
def test_real_conversations_are_masked_or_refused(file: str) -> None:
    form, *wanted = REAL[file]
    tokenizer = tokenizers.load(str(SHARED_DATA / "minimind_tokenizer"))
    template = ChatTemplate(tokenizer)
    text = (SHARED_DATA / file).read_text()
    rows = json.loads(text) if file.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    refused: Counter[str] = Counter()
    masked = with_tools = answers = 0
    for row in rows:
        conversation = parse(row, form, {name: name for name in COLUMNS[form]})
        try:
            answers += check(tokenizer, template, conversation)
        except ConversationError as error:
            refused[str(error)] += 1
            continue
        masked += 1
        with_tools += conversation.tools is not None
    assert [masked, with_tools, answers] == wanted
    assert refused == {}
    assert masked == len(rows)
