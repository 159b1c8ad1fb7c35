"""A chat template at work: messages to text, by a Jinja template that transformers compiles.

`Renderer` is the template. `Rendering` is one conversation that it rendered, with the texts that the template gives for
the beginnings of that conversation: answers and exchanges are found by comparing these.
"""

import re
from functools import cached_property
from typing import Any

from trainyard.data.conversations.conversation import Message
from trainyard.data.conversations.markup import Markup
from trainyard.errors import ConversationError

Span = tuple[int, int]
"""A range [begin, end) of characters of a rendered text."""

_MARKS = 0x100000
"""The first mark: two for each message, around its content. Characters for private use, which no content has by the
time it is rendered."""


class Renderer:
    """A Jinja template, rendered with the variables that apply_chat_template would give it.

    Attributes:
        has_tags: does the template mark answers by {% generation %}?
    """

    def __init__(self, source: str, values: dict[str, Any]):
        self._source, self._values = source, {"documents": None, **values}
        self.has_tags = re.search(r"\{%-?\s*generation\s*-?%\}", source) is not None

    @cached_property
    def _template(self) -> Any:
        from transformers.utils.chat_template_utils import _compile_jinja_template

        template = _compile_jinja_template(self._source)
        template.globals = dict(template.globals)  # jinja copies them for each rendering, slowly from its own mapping
        return template

    def __call__(
        self, messages: list[Message], tools: Any, *, prompt: bool = False, blocks: list[Span] | None = None
    ) -> str:
        """The rendered messages.

        Args:
            prompt: end with the generation prompt.
            blocks: gets the passages inside the template's generation tags.

        Raises:
            ConversationError: the template refuses the messages, or fails on them.
        """
        from jinja2.exceptions import TemplateError
        from transformers.utils.chat_template_utils import _render_with_assistant_indices

        values = {**self._values, "messages": messages, "tools": tools, "add_generation_prompt": prompt}
        try:
            if blocks is None or not self.has_tags:
                return str(self._template.render(values))
            rendered, found = _render_with_assistant_indices(self._template, **values)
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise ConversationError(f"the chat template does not take it: {error}") from error
        blocks += found
        return str(rendered)


class Rendering:
    """One conversation, rendered. Messages are named by their number, from 0.

    Attributes:
        text: the whole conversation as text.
        answers: the numbers of the assistant's messages.
        has_tags: does the template mark what a model generates?
        blocks: the passages that it marks.
        closed: what was added to close the last answer, which the template leaves open; mostly empty.
    """

    def __init__(self, render: Renderer, markup: Markup, messages: list[Message], tools: Any):
        self._render, self.markup, self.messages, self.tools = render, markup, messages, tools
        self.answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        self.has_tags = render.has_tags
        self.blocks: list[Span] = []
        self.closed = ""
        self._prompts: dict[int, str] = {}
        self.text = render(messages, tools, blocks=self.blocks)

    def of(self, messages: list[Message]) -> str:
        """Other messages with the tools of this conversation, rendered."""
        return self._render(messages, self.tools)

    def without_tools(self) -> str:
        """The conversation as it is rendered when nobody describes tools."""
        return self._render(self.messages, None)

    def prompt(self, number: int) -> str:
        """The text that leads to a message at inference: the messages before it, and the generation prompt."""
        if number not in self._prompts:
            self._prompts[number] = self._render(self.messages[:number], self.tools, prompt=True)
        return self._prompts[number]

    def own(self, number: int) -> str:
        """A message as the template renders it while it is the last: what follows its prompt.

        Raises:
            ConversationError: its prompt does not lead to it.
        """
        until = self.text if number + 1 == len(self.messages) else self.of(self.messages[: number + 1])
        if not until.startswith(self.prompt(number)):
            raise ConversationError(f"message {number}: the generation prompt does not lead to it")
        return until[len(self.prompt(number)) :]

    def close(self, token: str) -> int:
        """Adds what closes the last answer; returns the place behind it."""
        self.text, self.closed = self.text + token, token
        return len(self.text)

    @cached_property
    def contents(self) -> dict[int, Span]:
        """Where the contents are, by a rendering with marks around them.

        A message is not in it whose content is empty, or which the template writes otherwise than it was said, or more
        than once. Of an answer with a block of reasoning, the content is what follows that.
        """
        marked, cores = [], {}
        for number, message in enumerate(self.messages):
            said, core = spoken(message)
            if core:
                cores[number] = core
                begin = message["content"].rindex(said) + said.index(core)
                parts = message["content"][:begin], core, message["content"][begin + len(core) :]
                message = message | {"content": mark(number)[0].join(parts[:2]) + mark(number)[1] + parts[2]}
            marked.append(message)
        try:
            shown = self.of(marked)
        except ConversationError:
            return {}
        places: dict[str, list[int]] = {}
        for count, match in enumerate(_MARK.finditer(shown)):
            places.setdefault(match[0], []).append(match.start() - count)
        if _MARK.sub("", shown) != self.text[: len(self.text) - len(self.closed)]:
            return {}
        found = {}
        for number, core in cores.items():
            begins, ends = (places.get(each, []) for each in mark(number))
            if len(begins) == len(ends) == 1 and self.text[begins[0] : ends[0]] == core:
                found[number] = (begins[0], ends[0])
        return found

    def next_content(self, number: int, place: int) -> int:
        """Where the first content behind a place begins that is not this message's; the end of the text without one."""
        return min(
            (span[0] for other, span in self.contents.items() if other != number and span[0] >= place),
            default=len(self.text),
        )

    @cached_property
    def openings(self) -> list[int]:
        """Where each answer begins, if the template's opening occurs exactly once per answer; else empty."""
        opening = self.markup.opening
        ends = [match.end() for match in re.finditer(re.escape(opening), self.text)] if opening else []
        return ends if len(ends) == len(self.answers) else []

    def divergence(self, number: int) -> ConversationError:
        """The error for an answer whose prompt at inference is not what precedes it here."""
        prompt, text = self.prompt(number), self.text
        same = next((i for i, (a, b) in enumerate(zip(text, prompt, strict=False)) if a != b), len(prompt))
        return ConversationError(
            f"message {number}: at inference the prompt goes on with {prompt[same : same + 40]!r}, where the "
            f"conversation has {text[same : same + 40]!r}; set data.template_variables so that they agree, learn only "
            f"the last answer, or change the data"
        )


def mark(number: int) -> tuple[str, str]:
    """The marks around the content of a message."""
    return chr(_MARKS + 2 * number), chr(_MARKS + 2 * number + 1)


_MARK = re.compile(f"[{chr(_MARKS)}-\U0010ffef]")


def spoken(message: Message) -> tuple[str, str]:
    """What a message says without its reasoning, and that without the white space around it."""
    content = message["content"]
    if message["role"] == "assistant" and "reasoning_content" not in message:
        content = content.rpartition("</think>")[2]
    return content, content.strip()
