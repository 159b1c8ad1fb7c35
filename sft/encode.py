"""Conversations to token ids for fine-tuning: what the chat template renders, with a mask of what is learned."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainyard.data.answers import NOWHERE
from trainyard.data.chat import Conversation, ConversationError
from trainyard.data.encoder import TextEncoder
from trainyard.data.sources import DataError
from trainyard.data.template import ChatTemplate, Rendered
from trainyard.data.tokens import Tokens
from trainyard.schema import DataConfig

SAMPLE = 200
"""Conversations at the start of the corpus on which the encoding is proved."""


class Encoder:
    """Turns conversations into ids, a loss mask and the places where they may be cut."""

    def __init__(self, tokenizer: Any, sample: Sequence[Conversation], data: DataConfig, *, fast: bool = True):
        """`sample` is the start of the corpus, on which the fast backend is proved; see TextEncoder.

        Raises:
            DataError: the template cannot be used, or stretches of text are not encoded as the whole would be.
        """
        try:
            self.template = ChatTemplate(
                tokenizer,
                data.chat_template,
                learn=data.learn,
                learn_prompt=data.train_on_prompt,
                variables=data.template_variables,
            )
        except ConversationError as error:
            raise DataError(f"data.chat_template: {error}") from error
        rendered = [found for found in map(self._try_render, sample[:SAMPLE]) if isinstance(found, Rendered)]
        texts = [run.text for found in rendered for run in found.runs if not run.control]
        self.text = TextEncoder(tokenizer, texts, fast=fast, surround=False)
        self.name, self.reason = self.text.name, self.text.reason
        self._control = dict(tokenizer.get_added_vocab())
        _prove(tokenizer, rendered, self)

    def __call__(self, conversations: list[Conversation]) -> Tokens:
        rendered = [self._try_render(conversation) for conversation in conversations]
        refused = {number: found for number, found in enumerate(rendered) if isinstance(found, str)}
        return self.encode([found for found in rendered if isinstance(found, Rendered)])._replace(refused=refused)

    def encode(self, rendered: Sequence[Rendered]) -> Tokens:
        """The ids of all runs one after another: control tokens by their number, text by the text encoder."""
        runs = [run for found in rendered for run in found.runs]
        control = np.array([run.control for run in runs], dtype=bool)
        encoded = self.text([run.text for run in runs if not run.control])
        sizes = np.ones(len(runs), dtype=np.int64)
        sizes[~control] = encoded.lengths
        ids = np.empty(int(sizes.sum()), dtype=np.uint32)
        is_control = np.repeat(control, sizes)
        ids[is_control] = [self._control[run.text] for run in runs if run.control]
        ids[~is_control] = encoded.ids
        learned = np.repeat(np.array([run.learned for run in runs], dtype=np.uint8), sizes)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        first = np.cumsum([0, *(len(found.runs) for found in rendered)])
        lengths = ends[first[1:]] - ends[first[:-1]]
        cuts = [
            [int(ends[begin + run] - ends[begin]) if run < NOWHERE else NOWHERE for run in found.cuts]
            for begin, found in zip(first[:-1], rendered, strict=True)
        ]
        return Tokens(ids, lengths, loss_mask=learned, cuts=cuts)

    def _try_render(self, conversation: Conversation) -> Rendered | str:
        try:
            return self.template.render(conversation)
        except ConversationError as error:
            return str(error)


def _prove(tokenizer: Any, rendered: Sequence[Rendered], encoder: Encoder) -> None:
    """Are runs, encoded one by one, what the tokenizer gives for the whole text?

    Raises:
        DataError: they are not; with a tokenizer that looks at what stands before a text, as one that puts a space
            before the first word alone.
    """
    for found in rendered:
        whole = "".join(run.text for run in found.runs)
        joined = [run._replace(learned=False) for run in found.runs]
        merged: list[Any] = []
        for run in joined:
            if merged and not run.control and not merged[-1].control:
                merged[-1] = run._replace(text=merged[-1].text + run.text)
            else:
                merged.append(run)
        ours = encoder.encode([Rendered(merged, [], False)]).ids.tolist()
        theirs = tokenizer(whole, add_special_tokens=False)["input_ids"]
        if ours != theirs and not found.spells:
            raise DataError(
                "the tokenizer encodes text that follows a special token otherwise than the same text by itself; "
                "conversations for such tokenizers are not supported. Use the model's fast tokenizer of another version"
            )
