"""Any Jinja chat template as a loss mask: a conversation, rendered once and cut into fragments, learned or not.

The steps, a module each: spelling (placeholders for special tokens that the content spells), arguments (of calls, as
objects or as text), rendering (messages to text), answers, turn_ends and calls (the stretches that are learned,
verified), exchanges (where the text may be cut), fragments (the text cut up).
"""

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from trainyard.data.conversations.answers import Answers
from trainyard.data.conversations.arguments import Arguments
from trainyard.data.conversations.conversation import Conversation, Message
from trainyard.data.conversations.exchanges import exchange_starts
from trainyard.data.conversations.fragments import Cutter, Fragment, Note, Rendered
from trainyard.data.conversations.left_out import left_out
from trainyard.data.conversations.markup import Markup
from trainyard.data.conversations.probe import TOOLS, probe
from trainyard.data.conversations.rendering import Renderer, Rendering, Span
from trainyard.data.conversations.spelling import BRACKETED, PRIVATE, REASONING, Spelling, patterns
from trainyard.data.conversations.tags import difference
from trainyard.data.tokenization.chat_templates import DEFAULT, WITH_TOOLS, chosen
from trainyard.data.tokenization.encoded import CutPoints
from trainyard.errors import ConversationError


class ChatTemplate:
    """A tokenizer's chat template, with what it takes to say which of its output is learned.

    Attributes:
        end: the special token that ends an assistant's turn.
        ends: the tokens at which a model stops: that one, and those that end calls and a last turn where they differ.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str | None = None,
        *,
        learn: str = "all",
        learn_prompt: bool = False,
        variables: dict[str, Any] | None = None,
        strict: bool | None = None,
    ):
        """
        Args:
            template: Jinja source, or the name of one of the tokenizer's own; None: what transformers takes, its
                template named tool_use for conversations with tools, and the one named default otherwise.
            learn: all answers, or the last. A message's own flag takes precedence.
            learn_prompt: learn every token, whoever said it and whatever its message's flag says.
            variables: given to the template, such as {enable_thinking: false}.
            strict: refuse conversations of which the template leaves something out, or note what; None: do not look.

        Raises:
            ConversationError: the tokenizer has no chat template, or one that cannot be rendered or leaves an answer
                without a special token at its end, so that a model would never stop.
        """
        source = chosen(tokenizer.chat_template, template)
        self._with_tools: ChatTemplate | None = None
        if isinstance(source, Mapping) and WITH_TOOLS in source:
            settings: dict[str, Any] = {"learn": learn, "learn_prompt": learn_prompt, "variables": variables}
            self._with_tools = ChatTemplate(tokenizer, source[WITH_TOOLS], strict=strict, **settings)
        if isinstance(source, Mapping) and DEFAULT in source:
            source = source[DEFAULT]
        if not isinstance(source, str):
            named = f"several chat templates ({', '.join(source)})" if source else "no chat template"
            raise ConversationError(f"the tokenizer has {named}; set data.chat_template to the one to use")
        if PRIVATE.search(source):
            raise ConversationError("the chat template has characters for private use, which stand for others here")
        self._learn, self._learn_prompt, self._strict = learn, learn_prompt, strict
        self._render = Renderer(source, tokenizer.special_tokens_map | (variables or {}))
        self._arguments = Arguments(self._render)
        every = tokenizer.added_tokens_decoder.values()
        marks = self._marks(
            {token.content for token in every if not token.special and BRACKETED.fullmatch(token.content)}
        )
        added = [token for token in every if token.special or token.content in marks]
        special = {token.content for token in added} | set(tokenizer.all_special_tokens)
        self._encoded_in_text = special - {token.content for token in every if token.special}
        self._special, self._special_in_answer = patterns(special)
        self._cutter = Cutter(
            self._special,
            swallow_before={token.content for token in added if token.lstrip},
            swallow_behind={token.content for token in added if token.rstrip},
        )
        self._markup = self._first_markup()
        self._markups: dict[Any, Markup] = {}
        self.end = self._markup.end
        self.ends: frozenset[str] = self._markup.ends | (self._with_tools.ends if self._with_tools else frozenset())

    def fragments(self, conversation: Conversation) -> list[Fragment]:
        """The rendered conversation as fragments; see render."""
        return self.render(conversation).fragments

    def render(self, conversation: Conversation) -> Rendered:
        """The rendered conversation as fragments, with its cut points.

        Raises:
            ConversationError: the template does not take the conversation, nothing of it would be learned, or the text
                that would be learned is not what the assistant says there.
        """
        if self._with_tools and conversation.tools:
            return self._with_tools.render(conversation)
        learned = self._messages_to_learn(conversation)
        spelling = Spelling(self._special, self._special_in_answer)
        spelled = [spelling.message(message) for message in conversation.messages]
        tools = spelling.value(conversation.tools)
        messages = self._arguments(spelled, tools)
        whole = Rendering(self._render, self._markup_of(messages, tools), messages, tools)
        self._check_forged(spelling)
        spans = _find(whole, learned)
        exchanges = exchange_starts(whole, {number: span[1] for number, span in zip(learned, spans, strict=True)})
        notes = self._left_out(whole, learned) + _notes(whole, spans)
        if self._learn_prompt:
            spans = [(0, len(whole.text))]
        return self._cut(whole.text, spans, exchanges, spelling)._replace(notes=notes)

    def prompt(self, messages: list[Message], tools: list[Any] | None = None) -> Rendered:
        """The text that leads to the next answer at inference, for messages that end with another's.

        Raises:
            ConversationError: the template does not take the messages.
        """
        if self._with_tools and tools:
            return self._with_tools.prompt(messages, tools)
        spelling = Spelling(self._special, self._special_in_answer)
        prepared, given = [spelling.message(message) for message in messages], spelling.value(tools)
        text = self._render(self._arguments(prepared, given), given, prompt=True)
        self._check_forged(spelling)
        return self._cut(text, [], CutPoints(), spelling)

    def _marks(self, tokens: set[str]) -> set[str]:
        """The tokens among these that the template writes around messages: control, whatever their flags."""
        asked, system = [{"role": "user", "content": "q"}], [{"role": "system", "content": "s"}]
        shown = ""
        for head in ([], system):
            with contextlib.suppress(ConversationError):
                answered = [*head, *asked, {"role": "assistant", "content": "a"}, *asked]
                shown += self._render(answered, None) + self._render([*head, *asked], None, prompt=True)
        return {token for token in tokens - REASONING if token in shown}

    def _check_forged(self, spelling: Spelling) -> None:
        """Raises a ConversationError if content spells control that the tokenizer would find in it."""
        if forged := self._encoded_in_text & set(spelling.spelled):
            raise ConversationError(
                f"it spells {min(forged)!r}, which the tokenizer finds in any text; mark it special in tokenizer.json"
            )

    def _messages_to_learn(self, conversation: Conversation) -> list[int]:
        """The numbers of the messages to learn.

        With learn_prompt everything is learned, and only the last answer is verified.
        """
        answers = [number for number, message in enumerate(conversation.messages) if message["role"] == "assistant"]
        if self._learn_prompt:
            return answers[-1:]
        by_rule = set(answers if self._learn == "all" else answers[-1:])
        by_rule.discard(0)  # no prompt leads to it at inference
        flags = enumerate(conversation.learn)
        learned = [number for number, flag in flags if (number in by_rule if flag is None else flag)]
        if not learned:
            raise ConversationError("nothing of it is learned: every message of the assistant is left out")
        return learned

    def _left_out(self, whole: Rendering, learned: list[int]) -> tuple[Note, ...]:
        """Notes on what the template leaves out.

        Raises:
            ConversationError: it leaves something out, and is to be strict.
        """
        found = left_out(whole, learned) if self._strict is not None else []
        if found and self._strict:
            raise ConversationError(
                f"the chat template leaves out {' and '.join(found)}; use another, or set data.strict_template=false"
            )
        return tuple(Note(f"the chat template leaves out {each} (data.strict_template=true refuses)") for each in found)

    def _first_markup(self) -> Markup:
        """The markup of the simplest conversation that the template takes: some need a system message or tools."""
        system = [{"role": "system", "content": "s"}]
        refused: list[ConversationError] = []
        for head, described in (([], None), (system, None), ([], TOOLS), (system, TOOLS)):
            try:
                return probe(self._render, self._special, head, described, reasons=True)
            except ConversationError as error:
                refused.append(error)
        raise refused[0]

    def _markup_of(self, messages: list[Message], tools: list[Any] | None) -> Markup:
        """The markup of conversations that begin like this one, and have tools and reasoning where it has some."""
        heads = itertools.takewhile(lambda message: message["role"] in ("system", "developer"), messages)
        head, reasons = list(heads), any("reasoning_content" in message for message in messages)
        key = (tuple(message["role"] for message in head), bool(tools), reasons)
        if key not in self._markups:
            try:
                self._markups[key] = probe(self._render, self._special, head, tools, reasons=reasons)
            except ConversationError:
                self._markups[key] = self._markup
        return self._markups[key]

    def _cut(self, text: str, learned: list[Span], exchanges: CutPoints, spelling: Spelling) -> Rendered:
        if spelling.spelled and "\\udb" in text:  # a placeholder as json.dumps writes it in ASCII
            raise ConversationError("it spells a special token, which the template writes in ASCII; remove it")
        return self._cutter.cut(text, learned, exchanges, spelling.spelled)


def _notes(whole: Rendering, spans: Sequence[Span]) -> tuple[Note, ...]:
    """What is done otherwise than the template says."""
    notes = [Note(f"the template leaves a last answer open; {whole.closed} closes it")] if whole.closed else []
    if whole.has_tags and (differs := difference(whole.text, whole.blocks, spans)):
        notes.append(
            Note("the template's generation tags are not followed where the prompt at inference differs", differs)
        )
    return tuple(notes)


def _find(whole: Rendering, learned: Sequence[int]) -> list[Span]:
    """The stretches of the messages to learn, in order."""
    answers = Answers(whole)
    last = max((number for number in learned if whole.messages[number]["role"] == "assistant"), default=-1)
    spans: list[Span] = []
    for number in learned:
        if whole.messages[number]["role"] == "assistant":
            spans.append(answers.find(number, spans[-1][1] if spans else 0, last))
        else:
            spans.append(answers.find_other(number))
    return spans
