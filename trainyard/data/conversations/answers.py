"""Where the assistant's answers are in a rendered conversation: found by rule, then verified.

An answer begins where the template's own generation prompt for the messages before it ends. Some templates rewrite
history, so that the earlier prompt is not a beginning of the whole text: there the answer begins behind the same words
that lead to it at inference. An answer ends with the tokens that close its turn; turn_ends.py finds these, and verifies
that everything up to there is the message.
"""

import re

from trainyard.data.conversations.rendering import Rendering, Span
from trainyard.data.conversations.turn_ends import end_of_turn
from trainyard.errors import ConversationError


class Answers:
    """Looks for the messages of one conversation, in their order."""

    def __init__(self, whole: Rendering):
        self._whole = whole
        self._found = -1  # the number of the latest answer

    def find(self, number: int, start: int, last: int) -> Span:
        """An answer, from its first character to the end of the token that closes it.

        Args:
            number: the message.
            start: where the answer found before this one ends.
            last: the last message that is looked for. Its prompt at inference must precede it exactly.

        Raises:
            ConversationError: the answer is not there, or not as it should be.
        """
        whole = self._whole
        if number == 0:  # apply_chat_template takes no empty conversation
            raise ConversationError("message 0 is the assistant's: no prompt leads to it at inference; do not learn it")
        begin = self._begin(number, start, last)
        if begin < start:
            raise ConversationError(f"message {number}: the template renders it before what was said earlier")
        self._found = number
        return begin, end_of_turn(whole, number, begin, is_last=number == last)

    def find_other(self, number: int) -> Span:
        """The content of a message that is not the assistant's, with the special token that follows it.

        Raises:
            ConversationError: the template changes the content, or renders it only together with others.
        """
        whole = self._whole
        place = whole.contents.get(number)
        if place is None or any(span < place for other, span in whole.contents.items() if other > number):
            raise ConversationError(
                f"message {number} is to be learned, and the template does not render it by itself; leave out its flag"
            )
        begin, end = place
        closing = re.compile(r"\s*(?:" + whole.markup.special.pattern + ")").match(whole.text, end)
        return begin, closing.end() if closing else end

    def _begin(self, number: int, start: int, last: int) -> int:
        """Where an answer begins, by the prompt that leads to it."""
        whole = self._whole
        if number < last and whole.openings:  # saves a rendering: no content spells the special token of an opening
            begin = whole.openings[whole.answers.index(number)]
            if whole.text.startswith(whole.messages[number]["content"] + whole.markup.end, begin):
                return begin
        prompt = whole.prompt(number)
        if whole.text.startswith(prompt):
            return len(prompt)
        earlier = self._begin_in_history(number, start, last) if number < last else None
        if earlier is None:
            raise whole.divergence(number)
        return earlier

    def _begin_in_history(self, number: int, start: int, last: int) -> int | None:
        """Where an earlier answer begins whose prompt the template has rewritten meanwhile.

        The end of the prompt must still be there: from its last special token on, or else from the content of the
        message before. With "[INST] Be brief. Hi [/INST]" at inference that is "Hi [/INST]".
        """
        whole, prompt = self._whole, self._whole.prompt(number)
        content = whole.messages[number - 1]["content"].strip()
        specials = [match.start() for match in whole.markup.special.finditer(prompt)]
        skipped = any(self._found < other < number for other in whole.answers)  # an answer that is not learned
        earlier = whole.text[start : len(whole.prompt(last)) - 1]  # without the end of the last answer's own prompt
        for place in (specials[-1] if specials else -1, prompt.rfind(content) if content else -1):
            found = earlier.find(prompt[place:]) if place >= 0 else -1
            if found >= 0 and not (skipped and earlier.count(prompt[place:]) > 1):
                return start + found + len(prompt) - place
        return None
