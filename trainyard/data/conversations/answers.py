"""Where the assistant's answers are in a conversation that a chat template has rendered: found by rule, then checked.

An answer begins where the template's own generation prompt for the messages before it ends, and ends with the token
that closes the turn. Where the template rewrites history, so that the earlier prompt is no beginning of the whole, the
answer begins behind the same words that lead to it at inference. A template's {% generation %} tags say where answers
begin. What is found must be the message's content and the token that closes it, no more and no less.
"""

import json
import re
from functools import cached_property
from typing import Any, NamedTuple

from trainyard.data.conversations.formats import Message
from trainyard.errors import ConversationError

Span = tuple[int, int]


OPEN, CLOSE = "\U00100000", "\U00100001"
"""Marks around a content; characters for private use, which no content has when it is rendered."""


NOWHERE = 2**32 - 1
"""Stands for a place that is not known; larger than any."""


class Markup(NamedTuple):
    """What a template puts around answers."""

    special: re.Pattern[str]
    """Any special token."""
    end: str
    """The special token that ends an answer."""
    opening: str
    """What stands between a question and its answer; empty if there is no special token in it."""
    between: str
    """What stands between the generation prompt and an answer, as an empty reasoning block; mostly nothing."""


class Renderer:
    """A Jinja template, compiled by transformers, rendered with what apply_chat_template would give it."""

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
        """The rendered messages; the passages inside generation tags are added to `blocks`.

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


class Answers:
    """One conversation as a template renders it, in which answers are looked for.

    Attributes:
        text: the whole of it.
    """

    def __init__(self, render: Renderer, markup: Markup, messages: list[Message], tools: Any):
        self._render, self._markup, self._messages, self._tools = render, markup, messages, tools
        self._numbers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        self._blocks: list[Span] = []
        self._prompts: dict[int, str] = {}
        self._found = -1
        self.text = render(messages, tools, blocks=self._blocks)

    def find(self, number: int, start: int, last: int) -> Span:
        """From the first character of the answer in a message to the end of the token that closes it.

        Args:
            start: where the answer found before this one ends.
            last: the last message that is looked for. What precedes it must be the prompt at inference, exactly.

        Raises:
            ConversationError: it is not there, or not as it should be.
        """
        if number == 0:  # apply_chat_template takes no empty conversation
            raise ConversationError("message 0 is the assistant's: no prompt leads to it at inference; do not learn it")
        if self._render.has_tags:
            block = self._block(number)
            begin = block[0]
            if number == last and self._prompt(number) != self.text[:begin]:
                raise ConversationError(self._divergence(number))
        else:
            block = None
            begin = self._begin(number, start, last)
        if begin < start:
            raise ConversationError(f"message {number}: the template renders it before what was said earlier")
        is_call = bool(self._messages[number].get("tool_calls"))
        token, end = (self._end_of_call if is_call else self._end_of_text)(number, begin, number == last)
        if block is not None:
            inside, outside = self.text[end : block[1]].strip(), self.text[block[1] : end].strip()
            if inside or outside not in ("", token):
                raise ConversationError(f"message {number}: the template's generation tags end elsewhere than its turn")
        self._found = number
        return begin, end

    def find_other(self, number: int) -> Span:
        """The content of a message that is not the assistant's, with the special token that follows it."""
        content = self._messages[number]["content"]
        core = content.strip()
        marked = self._messages[number] | {"content": content.replace(core, f"{OPEN}{core}{CLOSE}", 1)}
        shown = self._render([*self._messages[:number], marked], self._tools)
        before, _, rest = shown.partition(OPEN)
        begin, end = len(before), len(before) + len(core)
        if not core or not rest.startswith(core + CLOSE) or not self.text.startswith(before + core):
            raise ConversationError(
                f"message {number} is to be learned, and the template does not render it by itself; leave out its flag"
            )
        closing = re.compile(r"\s*(?:" + self._markup.special.pattern + ")").match(self.text, end)
        return begin, closing.end() if closing else end

    # ---- where an answer begins ----

    def _begin(self, number: int, start: int, last: int) -> int:
        if number < last and self._openings:  # spares a rendering: no content spells the special token of an opening
            begin = self._openings[self._numbers.index(number)]
            if self.text.startswith(self._messages[number]["content"] + self._markup.end, begin):
                return begin
        prompt = self._prompt(number)
        if self.text.startswith(prompt):
            return len(prompt)
        if number < last:
            # In history the prompt looks otherwise, but its end must be there: from its last special token on, or
            # where it has none there, from what was said last. "[INST] Be brief. Hi [/INST]" -> "Hi [/INST]"
            content = self._messages[number - 1]["content"].strip()
            specials = [match.start() for match in self._markup.special.finditer(prompt)]
            skipped = any(self._found < other < number for other in self._numbers)  # an answer that is not learned
            earlier = self.text[start : len(self._prompt(last)) - 1]  # so that what leads to the last is not found
            for place in (specials[-1] if specials else -1, prompt.rfind(content) if content else -1):
                found = earlier.find(prompt[place:]) if place >= 0 else -1
                if found >= 0 and not (skipped and earlier.count(prompt[place:]) > 1):
                    return start + found + len(prompt) - place
        raise ConversationError(self._divergence(number))

    @cached_property
    def _openings(self) -> list[int]:
        """Where the answers begin if each has, once, what opens answers before it; else empty."""
        opening = self._markup.opening
        ends = [match.end() for match in re.finditer(re.escape(opening), self.text)] if opening else []
        return ends if len(ends) == len(self._numbers) else []

    def exchanges(self, ends: dict[int, int]) -> list[int]:
        """Where exchanges begin: a message of the user and what follows up to the next one that an answer precedes.

        The first begins behind the system message and the tools, or NOWHERE if that is no place between messages. A
        later one that the template does not begin between messages is left out.

        Args:
            ends: where answers end that have been found, by the number of the message.
        """
        roles = [message["role"] for message in self._messages]
        first = next((number for number, role in enumerate(roles) if role not in ("system", "developer")), 0)
        later = [n for n in range(first + 1, len(roles)) if roles[n] == "user" and roles[n - 1] == "assistant"]
        if not later:
            return [0]
        lead = self._between(first) if first or self._tools else 0
        places = [ends[n - 1] if n - 1 in ends else self._between(n) for n in later]
        return [lead, *(self._skip_space(place) for place in places if place < NOWHERE)]

    def _between(self, number: int) -> int:
        """Where a message begins, if what stands before it is rendered the same without it."""
        if number == 0:
            return NOWHERE
        try:
            before = self._render(self._messages[:number], self._tools)
        except ConversationError:
            return NOWHERE
        return len(before) if self.text.startswith(before) else NOWHERE

    def _skip_space(self, place: int) -> int:
        """Behind the white space at a place, if a special token follows it."""
        behind = len(self.text) - len(self.text[place:].lstrip())
        return behind if self._markup.special.match(self.text, behind) else place

    def _block(self, number: int) -> Span:
        if len(self._blocks) != len(self._numbers):
            raise ConversationError(
                f"the template marks {len(self._blocks)} passages as generated, "
                f"and the assistant has {len(self._numbers)} messages"
            )
        return self._blocks[self._numbers.index(number)]

    def _prompt(self, number: int) -> str:
        """What leads to a message at inference."""
        if number not in self._prompts:
            self._prompts[number] = self._render(self._messages[:number], self._tools, prompt=True)
        return self._prompts[number]

    def _divergence(self, number: int) -> str:
        prompt, text = self._prompt(number), self.text
        same = next((i for i, (a, b) in enumerate(zip(text, prompt, strict=False)) if a != b), len(prompt))
        return (
            f"message {number}: at inference the prompt goes on with {prompt[same : same + 40]!r}, where the "
            f"conversation has {text[same : same + 40]!r}; set data.template_variables so that they agree, learn only "
            f"the last answer, or change the data"
        )

    # ---- where it ends, and whether it is the message ----

    def _end_of_text(self, number: int, begin: int, is_last: bool) -> tuple[str, int]:
        """The end token and the place behind it; what precedes it must be the message's content."""
        message, token = self._messages[number], self._markup.end
        end = self.text.find(token, begin)
        said = self.text[begin : end if end >= 0 else len(self.text)].strip()
        if said != message["content"].strip() or message.get("reasoning_content"):
            reasoning, answer = _parts(message)
            before = said.removesuffix(answer).strip()
            if not said.endswith(answer) or not self._may_precede(before, reasoning):
                raise ConversationError(
                    f"message {number}: the template renders {said[:60]!r} where the answer {answer[:60]!r} should be"
                )
            self._require_reasoning(number, reasoning, before, is_last)
        if end < 0:
            raise ConversationError(f"message {number}: {token!r} does not end the answer")
        return token, end + len(token)

    def _end_of_call(self, number: int, begin: int, is_last: bool) -> tuple[str, int]:
        """The same for a call of functions. Other tokens may end it, so the turn is rendered with nothing behind it."""
        own = self.text[begin:]
        if number + 1 < len(self._messages):
            whole = self._render(self._messages[: number + 1], self._tools)
            if not whole.startswith(self._prompt(number)):
                raise ConversationError(f"message {number}: the generation prompt does not lead to the call")
            own = whole[len(self._prompt(number)) :]
        specials = self._markup.special.findall(own)
        if not specials:
            raise ConversationError(f"message {number}: no special token ends the call")
        token = self._markup.end if self._markup.end in specials else specials[-1]
        own = own[: own.find(token) if token == self._markup.end else own.rfind(token)]
        is_same = self.text.startswith(own + token, begin)
        end = begin + len(own) if is_same else max(self.text.find(token, begin), begin)
        said = self.text[begin:end].lstrip()
        reasoning, _ = _parts(self._messages[number])
        if not own.endswith(said) or not self._may_precede(own.removesuffix(said).strip(), reasoning):
            raise ConversationError(f"message {number}: the template renders the call otherwise when more is said")
        self._require_reasoning(number, reasoning, said, is_last)
        self._check_call(number, said)
        return token, end + len(token)

    def _check_call(self, number: int, said: str) -> None:
        message = self._messages[number]
        if _parts(message)[1] not in said:
            raise ConversationError(f"message {number}: the template leaves out what is said beside the call")
        for call in message["tool_calls"]:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            if name not in said or not all(key in said or json.dumps(key)[1:-1] in said for key in arguments):
                raise ConversationError(f"message {number}: the template leaves out the call of {name!r}")
            if arguments and str(arguments) in said:
                raise ConversationError(f"message {number}: the template writes arguments as Python, not as JSON")

    def _may_precede(self, text: str, reasoning: str) -> bool:
        """May this stand before an answer: nothing, what the template puts before any answer, or the reasoning?"""
        return text in ("", self._markup.between) or (reasoning != "" and reasoning in text)

    def _require_reasoning(self, number: int, reasoning: str, said: str, is_last: bool) -> None:
        if is_last and reasoning not in said:
            raise ConversationError(f"message {number}: the template leaves out the reasoning of the last answer")


def _parts(message: Message) -> tuple[str, str]:
    """An assistant's reasoning, empty where there is none, and its answer."""
    content = message["content"]
    if "reasoning_content" in message:
        return message["reasoning_content"].strip(), content.strip()
    head, _, answer = content.rpartition("</think>")
    return head.rpartition("<think>")[2].strip(), answer.strip()
