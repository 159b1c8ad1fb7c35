"""What a chat template writes around what is said, seen by rendering messages of one character."""

import re
from typing import Any

from trainyard.data.conversations.conversation import Message
from trainyard.data.conversations.markup import Markup
from trainyard.data.conversations.rendering import Renderer
from trainyard.errors import ConversationError

_QUESTION, _ANSWER, _THOUGHT, _NEXT, _RESULT = (chr(0x10FFF0 + number) for number in range(5))
"""Contents: characters for private use, which no content has by the time it is rendered."""

_CALL = "look_it_up"
_CALLED = {"type": "function", "id": "abcdefghi", "function": {"name": _CALL, "arguments": {"word": "a"}}}
_WORD = {"type": "object", "properties": {"word": {"type": "string", "description": ""}}, "required": ["word"]}
TOOLS = [{"type": "function", "function": {"name": _CALL, "description": "", "parameters": _WORD}}]
"""A function, for templates that need some."""


def probe(
    render: Renderer, special: re.Pattern[str], head: list[Message], tools: list[Any] | None, *, reasons: bool
) -> Markup:
    """The markup of conversations that begin with these system messages and have these tools.

    Args:
        special: matches any special token.
        reasons: do answers come with reasoning?

    Raises:
        ConversationError: the template takes no question and answer, or no special token ends an answer.
    """
    asked = [*head, _said("user", _QUESTION)]
    thinking = {"reasoning_content": _THOUGHT, "thinking": _THOUGHT}
    answer = _said("assistant", _ANSWER)
    alone = _attempt(render, [*asked, answer], tools)
    if alone is None and reasons:  # a template that needs reasoning
        answer |= thinking
    alone = alone or render([*asked, answer], tools)
    thought = _attempt(render, [*asked, answer | thinking], tools) or ""
    followed = _attempt(render, [*asked, answer, _said("user", _NEXT), answer], tools) or ""
    prompt = render(asked, tools, prompt=True)
    behind = alone.find(_ANSWER) + 1
    if not behind:
        raise ConversationError("the chat template does not render what the assistant says")
    last, before = alone[behind:], alone.partition(_QUESTION)[0]
    gap = followed[followed.find(_ANSWER) + 1 : followed.find(_NEXT)] if _NEXT in followed else None
    bare = Markup(special, "")
    tail, opens = _tail(bare, last, gap, before)
    question = gap[opens:].lstrip() if gap is not None and opens < len(gap) else ""
    opening = prompt.rpartition(_QUESTION)[2]
    between = {"", *_between(alone, prompt), *_between(thought, prompt), *_between(followed, opening)}
    closing = "" if special.search(last) else tail[special.search(tail).start() :]  # type: ignore[union-attr]
    within = special.findall(thought[len(prompt) : thought.find(_ANSWER)]) if thought.startswith(prompt) else []
    ends = {special.findall(tail)[-1]} - set(within)
    if tail.lstrip() not in last and (run := special.search(last)):
        ends.add(special.findall(last[: bare.run(last, run.start())])[-1])
    markup = bare._replace(
        opening=opening if special.search(opening) else "",
        between=frozenset(text for text in between if _THOUGHT not in text),
        tail=tail,
        closing=closing,
        question=question,
        header=before[: len(before) - len(question)] if question and before.endswith(question) else None,
        ends=frozenset(ends),
    )
    return _with_calls(markup, render, asked, tools or TOOLS)


def _tail(markup: Markup, last: str, gap: str | None, before: str) -> tuple[str, int]:
    """What closes an answer, and where in the gap behind it the next message begins.

    Args:
        last: what follows an answer that is the last message.
        gap: what stands between an answer and the content of a user's next message; None if the template takes none.
        before: what stands before a first question.

    Raises:
        ConversationError: no special token ends the answer.
    """
    special = markup.special
    first = special.search(last)
    if gap is None or not special.search(gap) or (first is None and last.strip()):
        if first is None:
            raise ConversationError(
                "the chat template ends the assistant's turn with no special token, so a model would never stop; let "
                "it write eos_token there, or make what it writes a special token with tokenizer.add_tokens"
            )
        tail = last[: markup.run(last, first.start())]
        return tail, len(tail)
    closed = [match.end() for match in special.finditer(gap, 0, markup.common(last, gap))]
    if closed:
        return gap[: closed[-1]], closed[-1]
    marks = list(special.finditer(gap))
    opens = _suffix(gap, before, marks)  # what begins every message of the user is the next message's own
    own = [match.end() for match in marks if match.end() <= opens]
    if first is not None:  # as many tokens as close a last answer
        count = len(special.findall(last[: markup.run(last, first.start())]))
        end = marks[min(count, max(len(own), 1), len(marks)) - 1].end()
        return gap[:end], end
    if own:
        return gap[: own[-1]], own[-1]
    return gap[: marks[0].end()], marks[0].start()  # the next role's token ends the turn


def _suffix(text: str, other: str, marks: list[re.Match[str]]) -> int:
    """Where the common end of two texts begins in the first, within none of its special tokens."""
    pairs = zip(reversed(text), reversed(other), strict=False)
    place = len(text) - next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(text), len(other)))
    return next((mark.end() for mark in marks if mark.start() < place < mark.end()), place)


def _with_calls(markup: Markup, render: Renderer, asked: list[Message], tools: list[Any]) -> Markup:
    """The markup with what closes a call, if the template renders calls."""
    prompt = _attempt(render, asked, tools, prompt=True)
    said = _said("assistant", "") | {"tool_calls": [_CALLED]}
    called = _attempt(render, [*asked, said], tools)
    if prompt is None or called is None or not called.startswith(prompt) or _CALL not in called[len(prompt) :]:
        return markup
    own = called[len(prompt) :].rstrip()
    if markup.closing:
        result = {"role": "tool", "content": _RESULT, "name": _CALL, "tool_call_id": _CALLED["id"]}
        more = _attempt(render, [*asked, said, result], tools) or ""
        after = more[len(prompt) + len(own) :] if more.startswith(prompt + own) else ""
        match = markup.special.search(after)
        closes = match[0] if match and _RESULT not in after[: match.start()] else markup.closing
        stop = markup.special.findall(closes)[-1]
        return markup._replace(closing_call=closes, ends=markup.ends | {stop})
    tokens = markup.special.findall(own)
    if tokens and own.endswith(tokens[-1]) and markup.tail.lstrip() not in own:
        return markup._replace(ends=markup.ends | {tokens[-1]})
    return markup


def _between(rendered: str, lead: str) -> set[str]:
    """What stands between a lead and the answer behind it, stripped."""
    start = rendered.find(lead)
    place = rendered.find(_ANSWER, start)
    return {rendered[start + len(lead) : place].strip()} if lead and 0 <= start <= place else set()


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _attempt(render: Renderer, messages: list[Message], tools: Any, *, prompt: bool = False) -> str | None:
    """The rendered messages; None if the template does not take them."""
    try:
        return render(messages, tools, prompt=prompt)
    except ConversationError:
        return None
