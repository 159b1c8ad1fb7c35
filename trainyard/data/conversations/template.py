"""Any Jinja chat template as a mask: a conversation rendered once, cut into stretches that are learned or not.

Where answers are, and whether they are as they should be, is found by answers.py. Here the conversation is prepared
for that, and the result is cut.

Text cannot forge control: special tokens that the content spells are replaced by placeholders while the template is
rendered, so those that are found in the result are the template's own.
"""

import re
from itertools import pairwise
from typing import Any, NamedTuple

from trainyard.data.conversations.answers import NOWHERE, OPEN, Answers, Markup, Renderer, Span
from trainyard.data.conversations.formats import Conversation, Message
from trainyard.errors import ConversationError

_PLACEHOLDERS = 0xF0000


_PRIVATE = re.compile("[\U000f0000-\U0010ffff]")
"""Characters for private use: placeholders and marks. A content's own are replaced like special tokens."""


_REASONING = {"<think>", "</think>"}
"""Special tokens of some tokenizers that an answer may spell, because it is the model that writes them."""


class Fragment(NamedTuple):
    """A stretch of a rendered conversation."""

    text: str
    control: bool
    """A special token that the template put there; otherwise text, whatever it spells."""
    learned: bool


class Rendered(NamedTuple):
    """A conversation as a template gives it."""

    runs: list[Fragment]
    """Joined, they are what the template gives, less the white space that special tokens swallow when a text is
    encoded (lstrip and rstrip of AddedToken)."""
    cuts: list[int]
    """The runs with which its exchanges begin, the first behind what stands before it, as a system message. The first
    is larger than any number of runs when that does not end where a message begins."""
    spells: bool
    """Does its content spell a special token, which is text here?"""


class ChatTemplate:
    """A tokenizer's chat template, with what it takes to say which of its output is learned.

    Attributes:
        end: the special token that ends an assistant's turn.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str | None = None,
        *,
        learn: str = "all",
        learn_prompt: bool = False,
        variables: dict[str, Any] | None = None,
    ):
        """
        Args:
            template: Jinja source; None: the tokenizer's own.
            learn: all assistant turns, or the last; a message's own flag goes before it.
            learn_prompt: learn every token, whoever said it and whatever its message's flag says.
            variables: given to the template, as {enable_thinking: false}.

        Raises:
            ConversationError: the tokenizer has no chat template, or one that cannot be rendered or leaves an answer
                without a special token at its end, so that a model would never stop.
        """
        source = template or tokenizer.chat_template
        if not isinstance(source, str):
            named = f"several chat templates ({', '.join(source)})" if source else "no chat template"
            raise ConversationError(f"the tokenizer has {named}; set data.chat_template to the one to use")
        if _PRIVATE.search(source):
            raise ConversationError("the chat template has characters for private use, which stand for others here")
        self._learn, self._learn_prompt = learn, learn_prompt
        self._render = Renderer(source, tokenizer.special_tokens_map | (variables or {}))
        added = [token for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._swallows_before = {token.content for token in added if token.lstrip}
        self._swallows_behind = {token.content for token in added if token.rstrip}
        special = {token.content for token in added} | set(tokenizer.all_special_tokens)
        self._encoded_in_text = special - {token.content for token in added}
        self._special, self._special_in_answer = _any_of(special), _any_of(special - _REASONING)
        self._markup = self._probe()
        self.end = self._markup.end

    def runs(self, conversation: Conversation) -> list[Fragment]:
        """The rendered conversation in stretches; see render."""
        return self.render(conversation).runs

    def render(self, conversation: Conversation) -> Rendered:
        """The rendered conversation in stretches.

        Raises:
            ConversationError: the template does not take the conversation, nothing of it would be learned, or what
                would be learned is not what the assistant says there.
        """
        learned = self._learned(conversation)
        spelled: dict[str, str] = {}
        messages = [self._prepared(message, spelled) for message in conversation.messages]
        answers = Answers(self._render, self._markup, messages, self._guarded(conversation.tools, spelled))
        if forged := self._encoded_in_text & set(spelled):
            raise ConversationError(
                f"it spells {min(forged)!r}, which the tokenizer finds in any text; mark it special in tokenizer.json"
            )
        last = max((number for number in learned if messages[number]["role"] == "assistant"), default=-1)
        spans: list[Span] = []
        for number in learned:
            if messages[number]["role"] == "assistant":
                spans.append(answers.find(number, spans[-1][1] if spans else 0, last))
            else:
                spans.append(answers.find_other(number))
        exchanges = answers.exchanges({number: span[1] for number, span in zip(learned, spans, strict=True)})
        if self._learn_prompt:
            spans = [(0, len(answers.text))]
        return self._cut(answers.text, spans, exchanges, spelled)

    def prompt(self, messages: list[Message], tools: list[Any] | None = None) -> Rendered:
        """What leads to the next answer at inference, for messages that end with another's.

        Raises:
            ConversationError: the template does not take the messages.
        """
        spelled: dict[str, str] = {}
        prepared = [self._prepared(message, spelled) for message in messages]
        text = self._render(prepared, self._guarded(tools, spelled), prompt=True)
        return self._cut(text, [], [], spelled)

    def _learned(self, conversation: Conversation) -> list[int]:
        """The numbers of the messages that are learned; of which the answers are checked when everything is."""
        answers = [number for number, message in enumerate(conversation.messages) if message["role"] == "assistant"]
        if self._learn_prompt:
            return answers[-1:]
        by_rule = set(answers if self._learn == "all" else answers[-1:])
        flags = enumerate(conversation.learned)
        learned = [number for number, flag in flags if (number in by_rule if flag is None else flag)]
        if not learned:
            raise ConversationError("nothing of it is learned: every message of the assistant is left out")
        return learned

    def _probe(self) -> Markup:
        """What the template puts around an answer, here of one character."""
        asked, said = {"role": "user", "content": "q"}, {"role": "assistant", "content": OPEN}
        rendered, prompt = self._render([asked, said], None), self._render([asked], None, prompt=True)
        place = rendered.find(OPEN)
        if place < 0:
            raise ConversationError("the chat template does not render what the assistant says")
        match = self._special.search(rendered, place)
        if match is None:
            raise ConversationError(
                "the chat template ends the assistant's turn with no special token, so a model would never stop; "
                "let it write eos_token there, or make what it writes a special token with tokenizer.add_tokens"
            )
        between = rendered[len(prompt) : place].strip() if rendered.startswith(prompt) else ""
        behind = prompt.rpartition("q")[2]
        return Markup(self._special, match[0], behind if self._special.search(behind) else "", between)

    # ---- content that spells special tokens ----

    def _prepared(self, message: Message, spelled: dict[str, str]) -> Message:
        """A message as apply_chat_template gives it to the template, but with no text that spells a special token."""
        is_answer = message["role"] == "assistant"
        guarded = {name: self._guarded(value, spelled, is_answer=is_answer) for name, value in message.items()}
        if "reasoning_content" in guarded:
            return {"thinking": guarded["reasoning_content"], **guarded}
        return guarded

    def _guarded(self, value: Any, spelled: dict[str, str], *, is_answer: bool = False) -> Any:
        """The value with placeholders; `spelled` maps what they stand for to them, and grows."""
        if isinstance(value, str):
            special = self._special_in_answer if is_answer else self._special
            if special.search(value) or _PRIVATE.search(value):
                value = _PRIVATE.sub(lambda match: _placeholder(match[0], spelled), value)
                value = special.sub(lambda match: _placeholder(match[0], spelled), value)
            return value
        if isinstance(value, list):
            return [self._guarded(item, spelled, is_answer=is_answer) for item in value]
        if isinstance(value, dict):
            keys = [self._guarded(key, spelled, is_answer=is_answer) for key in value]
            return dict(zip(keys, self._guarded(list(value.values()), spelled, is_answer=is_answer), strict=True))
        return value

    def _cut(self, rendered: str, learned: list[Span], exchanges: list[int], spelled: dict[str, str]) -> Rendered:
        """Cut at special tokens, where learning begins and ends, and where exchanges begin.

        Cutting before an answer gives its tokens as inference does: the prompt is encoded by itself there.
        """
        if spelled and "\\udb" in rendered:  # a placeholder as json.dumps writes it in ASCII
            raise ConversationError("it spells a special token, which the template writes in ASCII; remove it")
        restored = str.maketrans({placeholder: text for text, placeholder in spelled.items()})
        controls = {match.start(): match.end() for match in self._special.finditer(rendered)}
        learned_to = dict(learned)
        bounds = {0, len(rendered), *controls, *controls.values(), *(place for span in learned for place in span)}
        bounds |= {place for place in exchanges if place < NOWHERE}
        number_at = {NOWHERE: NOWHERE}
        runs: list[Fragment] = []
        previous = ""  # the special token that ends where a stretch begins
        until = 0  # where the latest span that is learned ends
        for begin, end in pairwise(sorted(bounds)):
            text = rendered[begin:end]
            number_at[begin] = len(runs)
            until = learned_to.get(begin, until)
            is_learned = begin < until
            if controls.get(begin) == end:
                runs.append(Fragment(text, True, is_learned))
                previous = text
                continue
            if previous in self._swallows_behind and begin not in learned_to:
                text = text.lstrip()
            if self._swallows_before and rendered[end : controls.get(end, end)] in self._swallows_before:
                text = text.rstrip()
            if text:
                runs.append(Fragment(text.translate(restored) if spelled else text, False, is_learned))
            previous = ""
        return Rendered(runs, [number_at[place] for place in exchanges], bool(spelled))


def _any_of(tokens: set[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or r"(?!)")


def _placeholder(text: str, spelled: dict[str, str]) -> str:
    return spelled.setdefault(text, chr(_PLACEHOLDERS + len(spelled)))
