"""Templates that cannot be used are refused, with what to set."""

from typing import Any

import pytest

from trainyard.errors import ConversationError
from unit.template_cases import (
    TEMPLATES,
    TOKENIZER,
    chat_template,
    tokenizer_with,
)  # fmt: skip


def test_templates_that_cannot_be_used() -> None:
    def reason(source: str | None, tokenizer: Any = TOKENIZER) -> str:
        with pytest.raises(ConversationError) as caught:
            chat_template(source, tokenizer)
        return str(caught.value)

    several = tokenizer_with()
    several.chat_template = {"default": TEMPLATES["chatml"], "tool_use": TEMPLATES["chatml"]}
    use = "set data.chat_template to the one to use"
    assert reason(None) == f"the tokenizer has no chat template; {use}"
    assert reason(None, several) == f"the tokenizer has several chat templates (default, tool_use); {use}"
    assert reason("{{ nothing.at.all }}") == "the chat template does not take it: 'nothing' is undefined"
    assert reason("{% for %}").startswith("the chat template does not take it: ")
    assert reason("{{ messages[0].content }}") == "the chat template does not render what the assistant says"
    assert reason("\U000f0000").startswith("the chat template has characters for private use")
    assert reason(TEMPLATES["chatml"].replace("<|im_end|>", "<end>")).startswith(
        "the chat template ends the assistant's turn with no special token, so a model would never stop; let it write "
        "eos_token there, or make what it writes a special token with tokenizer.add_tokens"
    )
