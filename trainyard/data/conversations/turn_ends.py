"""Where an answer ends, and whether the text up to there is the message: no more and no less.

An answer ends behind the tokens that close its turn. Where its content has its place in the text, these are what the
template writes behind every answer. Otherwise, as with calls, the message is rendered as the last, and its text is
compared with what stands in the conversation.
"""

from typing import NamedTuple

from trainyard.data.conversations.calls import check_calls
from trainyard.data.conversations.conversation import Message
from trainyard.data.conversations.rendering import Rendering, spoken
from trainyard.errors import ConversationError


def end_of_turn(whole: Rendering, number: int, begin: int, *, is_last: bool) -> int:
    """The end of the answer that begins at a place, behind the tokens that close its turn.

    A last turn that the template leaves open is closed in the rendering.

    Args:
        number: the message.
        is_last: is no answer behind it learned? Templates may drop the reasoning of earlier answers, not of this one.

    Raises:
        ConversationError: nothing closes the turn, or the text is not the message.
    """
    message, place = whole.messages[number], whole.contents.get(number)
    if message.get("tool_calls") or place is None or place[0] < begin:
        return _compared(whole, number, begin, is_last)
    before = whole.text[begin : place[0]].strip()
    reasoning, answer = _parts(message)
    if not _may_precede(whole, before, reasoning):
        raise _other(number, before + answer, answer)
    _require_reasoning(number, reasoning, before, is_last)
    behind = _behind_space(whole.text, place[1])
    tail = whole.markup.tail.lstrip()
    end = behind + len(tail) if whole.text.startswith(tail, behind) else behind
    if number + 1 == len(whole.messages):
        end = whole.markup.run(whole.text, end)
        if end == behind:
            return _close(whole, number, whole.text[place[1] :])
    if end == behind:
        return _compared(whole, number, begin, is_last)
    return end


class _Match(NamedTuple):
    """A message as it is rendered as the last, beside what stands in the conversation."""

    text: str
    """What both have: the message, at most without reasoning that a template drops from history."""
    rest: str
    """What stands behind it where it is the last."""


def _compared(whole: Rendering, number: int, begin: int, is_last: bool) -> int:
    """The end of an answer, by the message as it is rendered while it is the last."""
    message = whole.messages[number]
    region = whole.text[begin : whole.next_content(number, begin)]
    own, (reasoning, answer) = whole.own(number), _parts(message)
    matched = _match(whole, own, region, reasoning)
    calls = message.get("tool_calls")
    if matched is None:
        if calls:
            raise ConversationError(f"message {number}: the template renders the call otherwise when more is said")
        raise _other(number, region.strip(), answer)
    end = _closed(whole, number, region, matched)
    said = region[: len(region) if end is None else end]
    if calls:
        if answer not in matched.text:
            raise ConversationError(f"message {number}: the template leaves out what is said beside the call")
        check_calls(whole, number, matched.text)
    else:
        closes = next(text for text in (whole.markup.tail.strip(), whole.markup.end, "") if text in matched.text)
        content = matched.text[: matched.text.rindex(closes)].strip() if closes else matched.text.strip()
        if not content.endswith(answer) or not _may_precede(whole, content.removesuffix(answer).strip(), reasoning):
            raise _other(number, content, answer)
    _require_reasoning(number, reasoning, said, is_last)
    if end is None:
        return _close(whole, number, region[len(matched.text) :])
    return begin + end


def _match(whole: Rendering, own: str, region: str, reasoning: str) -> _Match | None:
    """What a message as the last and the conversation have in common; None if they differ in more than reasoning."""
    markup = whole.markup
    same = markup.common(own, region)
    if _is_closing(whole, own[same:]):
        return _Match(region[:same], own[same:])
    droppable = {text for text in (*markup.between, reasoning) if text and text in own}
    for dropped in sorted(own.index(text) + len(text) for text in droppable):
        for start in range(dropped, len(own) if dropped > same else 0):
            kept = own[:same] + own[start:]
            common = markup.common(kept, region)
            if common > same and _is_closing(whole, kept[common:]) and kept[:common].strip():
                return _Match(region[:common], kept[common:])
    return None


def _is_closing(whole: Rendering, text: str) -> bool:
    """Is a text special tokens and white space alone?"""
    return not whole.markup.special.sub("", text).strip()


def _closed(whole: Rendering, number: int, region: str, matched: _Match) -> int | None:
    """Where the turn is closed in its region; None if nothing closes it there."""
    markup, text = whole.markup, matched.text
    tail, place = markup.tail.lstrip(), _behind_space(region, len(matched.text))
    if not markup.closing:
        found = text.rfind(tail) if tail else -1
        if found >= 0 and _is_closing(whole, text[found + len(tail) :]):
            return markup.run(text, found + len(tail))
        if region.startswith(tail, place):
            return place + len(tail)
        bare = text.rstrip()
        tokens = markup.special.findall(bare)
        if tokens and bare.endswith(tokens[-1]):
            return len(bare)
        count = len(markup.special.findall(matched.rest[: markup.run(matched.rest, _behind_space(matched.rest, 0))]))
        end = place
        while count and (match := markup.special.match(region, end)):
            end, count = match.end(), count - 1
        return end if end > place else None
    if region.startswith(tail, place):
        return place + len(tail)
    match = markup.special.match(region, place)  # the next role's token
    following = whole.messages[number + 1]["role"] if number + 1 < len(whole.messages) else ""
    if match and following not in ("", "assistant"):
        return match.end()
    return len(text.rstrip()) if following else None


def _close(whole: Rendering, number: int, behind: str) -> int:
    """Closes the last turn, which the template leaves open."""
    markup, calls = whole.markup, whole.messages[number].get("tool_calls")
    token = (markup.closing_call if calls else "") or markup.closing
    if not token or behind.strip():
        raise ConversationError(f"message {number}: {markup.end!r} does not end the answer")
    return whole.close(token)


def _may_precede(whole: Rendering, text: str, reasoning: str) -> bool:
    """May this text stand before an answer: nothing, what the template writes before any answer, or the reasoning?"""
    return text in whole.markup.between or (reasoning != "" and reasoning in text)


def _require_reasoning(number: int, reasoning: str, said: str, is_last: bool) -> None:
    if is_last and reasoning not in said:
        raise ConversationError(f"message {number}: the template leaves out the reasoning of the last answer")


def _other(number: int, said: str, answer: str) -> ConversationError:
    return ConversationError(
        f"message {number}: the template renders {said[:60]!r} where the answer {answer[:60]!r} should be"
    )


def _parts(message: Message) -> tuple[str, str]:
    """An assistant's reasoning, empty where there is none, and its answer."""
    answer = spoken(message)[1]
    if "reasoning_content" in message:
        return message["reasoning_content"].strip(), answer
    head = message["content"].rpartition("</think>")[0]
    return head.rpartition("<think>")[2].strip(), answer


def _behind_space(text: str, place: int) -> int:
    return len(text) - len(text[place:].lstrip())
