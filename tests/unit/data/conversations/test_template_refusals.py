"""Templates that cannot be used are refused, with what to set."""

from typing import Any

import pytest

from trainyard.data.conversations.template import ChatTemplate
from trainyard.errors import ConversationError
from unit.template_cases import (
    ADD,
    HELLO,
    HI,
    TEMPLATES,
    TOKENIZER,
    chat_template,
    talk,
    tokenizer_with,
)  # fmt: skip


def test_of_several_templates_the_named_one_is_taken_or_that_of_transformers() -> None:
    """Its rule: tool_use for conversations with tools, default for all others."""
    several, talks = tokenizer_with(), (talk(HI, HELLO), talk(HI, HELLO, tools=ADD))
    several.chat_template = {name: f"{name}: " + TEMPLATES["chatml"] for name in ("default", "tool_use", "rag")}

    def texts(template: ChatTemplate) -> list[str]:
        return ["".join(part.text for part in template.fragments(each)).partition(":")[0] for each in talks]

    theirs = [
        several.apply_chat_template(each.messages, tools=each.tools, tokenize=False).partition(":")[0] for each in talks
    ]
    assert texts(ChatTemplate(several)) == theirs == ["default", "tool_use"]
    assert texts(ChatTemplate(several, "rag")) == ["rag", "rag"]
    assert texts(ChatTemplate(several, TEMPLATES["chatml"]))[0].startswith("<|im_start|>")
    prompts = [ChatTemplate(several).prompt(each.messages[:1], each.tools) for each in talks]
    assert [prompt.fragments[0].text.partition(":")[0] for prompt in prompts] == theirs
    del several.chat_template["tool_use"]
    assert texts(ChatTemplate(several)) == ["default", "default"]


def test_templates_that_cannot_be_used() -> None:
    def reason(source: str | None, tokenizer: Any = TOKENIZER) -> str:
        with pytest.raises(ConversationError) as caught:
            chat_template(source, tokenizer)
        return str(caught.value)

    several = tokenizer_with()
    several.chat_template = {"brief": TEMPLATES["chatml"], "rag": TEMPLATES["chatml"]}
    use = "set data.chat_template to the one to use"
    assert reason(None) == f"the tokenizer has no chat template; {use}"
    assert reason(None, several) == f"the tokenizer has several chat templates (brief, rag); {use}"
    assert reason("{{ nothing.at.all }}") == "the chat template does not take it: 'nothing' is undefined"
    assert reason("{% for %}").startswith("the chat template does not take it: ")
    assert reason("{{ messages[0].content }}") == "the chat template does not render what the assistant says"
    assert reason("\U000f0000").startswith("the chat template has characters for private use")
    assert reason(TEMPLATES["chatml"].replace("<|im_end|>", "<end>")).startswith(
        "the chat template ends the assistant's turn with no special token, so a model would never stop; let it write "
        "eos_token there, or make what it writes a special token with tokenizer.add_tokens"
    )
