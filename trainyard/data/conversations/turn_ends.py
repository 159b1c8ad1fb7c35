"""Where an answer ends, and whether the text up to there is the message: no more and no less."""

from typing import NamedTuple

from trainyard.data.conversations.calls import check_calls
from trainyard.data.conversations.conversation import Message
from trainyard.data.conversations.rendering import Rendering
from trainyard.errors import ConversationError


class TurnEnd(NamedTuple):
    """The special token that ends an answer, and the place behind it."""

    token: str
    place: int


def end_of_turn(whole: Rendering, number: int, begin: int, *, is_last: bool) -> TurnEnd:
    """The end of the answer that begins at a place.

    Args:
        number: the message.
        is_last: is no answer behind it learned? Templates may drop the reasoning of earlier answers, not of this one.

    Raises:
        ConversationError: no special token ends the answer, or the text is not the message.
    """
    find = _end_of_call if whole.messages[number].get("tool_calls") else _end_of_text
    return find(whole, number, begin, is_last)


def _end_of_text(whole: Rendering, number: int, begin: int, is_last: bool) -> TurnEnd:
    """The end of a text: the template's end token, behind the message's content."""
    message, token = whole.messages[number], whole.markup.end
    end = whole.text.find(token, begin)
    said = whole.text[begin : end if end >= 0 else len(whole.text)].strip()
    if said != message["content"].strip() or message.get("reasoning_content"):
        reasoning, answer = _parts(message)
        before = said.removesuffix(answer).strip()
        if not said.endswith(answer) or not _may_precede(whole, before, reasoning):
            raise ConversationError(
                f"message {number}: the template renders {said[:60]!r} where the answer {answer[:60]!r} should be"
            )
        _require_reasoning(number, reasoning, before, is_last)
    if end < 0:
        raise ConversationError(f"message {number}: {token!r} does not end the answer")
    return TurnEnd(token, end + len(token))


def _end_of_call(whole: Rendering, number: int, begin: int, is_last: bool) -> TurnEnd:
    """The end of a call of functions, which may be another special token than that of a text.

    The turn is rendered as the last message to find the token.
    """
    own = whole.text[begin:]
    if number + 1 < len(whole.messages):
        until = whole.of(whole.messages[: number + 1])
        if not until.startswith(whole.prompt(number)):
            raise ConversationError(f"message {number}: the generation prompt does not lead to the call")
        own = until[len(whole.prompt(number)) :]
    specials = whole.markup.special.findall(own)
    if not specials:
        raise ConversationError(f"message {number}: no special token ends the call")
    token = whole.markup.end if whole.markup.end in specials else specials[-1]
    own = own[: own.find(token) if token == whole.markup.end else own.rfind(token)]
    is_same = whole.text.startswith(own + token, begin)
    end = begin + len(own) if is_same else max(whole.text.find(token, begin), begin)
    said = whole.text[begin:end].lstrip()
    reasoning, beside = _parts(whole.messages[number])
    if not own.endswith(said) or not _may_precede(whole, own.removesuffix(said).strip(), reasoning):
        raise ConversationError(f"message {number}: the template renders the call otherwise when more is said")
    _require_reasoning(number, reasoning, said, is_last)
    if beside not in said:
        raise ConversationError(f"message {number}: the template leaves out what is said beside the call")
    check_calls(whole, number, said)
    return TurnEnd(token, end + len(token))


def _may_precede(whole: Rendering, text: str, reasoning: str) -> bool:
    """May this text stand before an answer: nothing, what the template writes before any answer, or the reasoning?"""
    return text in ("", whole.markup.between) or (reasoning != "" and reasoning in text)


def _require_reasoning(number: int, reasoning: str, said: str, is_last: bool) -> None:
    if is_last and reasoning not in said:
        raise ConversationError(f"message {number}: the template leaves out the reasoning of the last answer")


def _parts(message: Message) -> tuple[str, str]:
    """An assistant's reasoning, empty where there is none, and its answer."""
    content = message["content"]
    if "reasoning_content" in message:
        return message["reasoning_content"].strip(), content.strip()
    head, _, answer = content.rpartition("</think>")
    return head.rpartition("<think>")[2].strip(), answer.strip()
