"""A chat template at work: messages to text, by a Jinja template that transformers compiles.

`Renderer` is the template. `Rendering` is one conversation that it rendered, with the texts that the template gives for
the beginnings of that conversation: answers and exchanges are found by comparing these.
"""

import re
from functools import cached_property
from typing import Any, NamedTuple

from trainyard.data.conversations.conversation import Message
from trainyard.errors import ConversationError

Span = tuple[int, int]
"""A range [begin, end) of characters of a rendered text."""

OPEN, CLOSE = "\U00100000", "\U00100001"
"""Marks around a content: characters for private use, which no content has by the time it is rendered."""


class Markup(NamedTuple):
    """What a template writes around answers."""

    special: re.Pattern[str]
    """Any special token."""
    end: str
    """The special token that ends an answer."""
    opening: str
    """The text between a question and its answer; empty if it holds no special token."""
    between: str
    """The text between the generation prompt and an answer, such as an empty block of reasoning; mostly empty."""


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
        has_tags: does the template mark answers?
    """

    def __init__(self, render: Renderer, markup: Markup, messages: list[Message], tools: Any):
        self._render, self.markup, self.messages, self.tools = render, markup, messages, tools
        self.answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        self.has_tags = render.has_tags
        self._blocks: list[Span] = []
        self._prompts: dict[int, str] = {}
        self.text = render(messages, tools, blocks=self._blocks)

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

    def tagged(self, number: int) -> Span:
        """The passage that the template's generation tags mark for an answer.

        Raises:
            ConversationError: there are not as many passages as answers.
        """
        if len(self._blocks) != len(self.answers):
            raise ConversationError(
                f"the template marks {len(self._blocks)} passages as generated, "
                f"and the assistant has {len(self.answers)} messages"
            )
        return self._blocks[self.answers.index(number)]

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
