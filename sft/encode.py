"""Conversations to token ids for fine-tuning: the text that the chat template renders, with a loss mask."""

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from trainyard.config.schema import DataConfig
from trainyard.data.conversations.conversation import Conversation
from trainyard.data.conversations.encode import ConversationEncoder, cut_at_answers
from trainyard.data.conversations.fragments import Rendered
from trainyard.data.conversations.template import ChatTemplate
from trainyard.data.tokenization.encoded import Tokens
from trainyard.errors import ConversationError, DataError

SAMPLE = 200
"""Conversations at the start of the corpus on which the encoding is verified."""


class Encoder:
    """Turns conversations into ids, a loss mask and cut points.

    Attributes:
        name: the backend that encodes the text.
        reason: why that backend was chosen.
    """

    def __init__(self, tokenizer: Any, sample: Sequence[Conversation], data: DataConfig, *, fast: bool = True):
        """`sample` is the start of the corpus, on which the fast backend is verified; see TextEncoder.

        Raises:
            DataError: the template cannot be used, or conversations do not get the ids that the tokenizer gives them.
        """
        template = partial(ChatTemplate, tokenizer, data.chat_template, variables=data.template_variables)
        try:
            self._template = template(learn=data.learn, learn_prompt=data.train_on_prompt, strict=data.strict_template)
            self._answer_finders = [template(), template(learn="last")]
        except ConversationError as error:
            raise DataError(f"data.chat_template: {error}") from error
        self._learns_all = data.learn == "all" and not data.train_on_prompt
        rendered = [found for found in map(self._try_render, sample[:SAMPLE]) if isinstance(found, Rendered)]
        texts = [fragment.text for found in rendered for fragment in found.fragments if not fragment.is_control]
        self._encode = ConversationEncoder(tokenizer, texts, fast=fast)
        self.name, self.reason = self._encode.text.name, self._encode.text.reason
        if difference := self._encode.mismatch(rendered):
            raise DataError(
                f"the tokenizer gives the whole of a conversation other ids than its parts: {difference}. Conversations"
                f" for such tokenizers are not supported; use the model's fast tokenizer of another version"
            )

    def __call__(self, conversations: list[Conversation]) -> Tokens:
        """The tokens of the conversations; those that cannot be learned are in `refused`, with the reason."""
        rendered = [self._try_render(conversation) for conversation in conversations]
        refused = {number: found for number, found in enumerate(rendered) if isinstance(found, str)}
        kept = [found for found in rendered if isinstance(found, Rendered)]
        return self._encode(kept)._replace(refused=refused, notes=[found.notes for found in kept])

    def _try_render(self, conversation: Conversation) -> Rendered | str:
        """The conversation, cut at every answer, or the reason why it cannot be learned."""
        try:
            rendered = self._template.render(conversation)
        except ConversationError as error:
            return str(error)
        if self._learns_all and all(flag is None for flag in conversation.learn):
            return rendered  # cut at its answers already
        for template in self._answer_finders:
            with contextlib.suppress(ConversationError):  # an answer that is not learned may be rendered differently
                return cut_at_answers(rendered, template, conversation)
        return rendered
