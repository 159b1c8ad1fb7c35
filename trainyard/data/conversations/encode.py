"""Rendered conversations to token ids, in training and at inference."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, groupby, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from trainyard.data.conversations.conversation import Conversation
from trainyard.data.conversations.fragments import Fragment, Rendered
from trainyard.data.conversations.template import ChatTemplate
from trainyard.data.tokenization.encoded import CutPoints, Tokens
from trainyard.data.tokenization.placed_encoder import PlacedEncoder
from trainyard.data.tokenization.tokenizer import vocab_size
from trainyard.errors import DataError


class ConversationEncoder:
    """Encodes rendered conversations: special tokens by their id, text as the tokenizer encodes it where it stands.

    Neighbouring fragments of text are encoded as one text where only an exchange begins between them, and apart where
    learning begins: there the prompt ends at inference.

    Attributes:
        text: the encoder of the text.
    """

    def __init__(self, tokenizer: Any, sample: Sequence[str] = (), *, fast: bool = False):
        """See TextEncoder for `sample` and `fast`."""
        self._tokenizer = tokenizer
        self._control = dict(tokenizer.get_added_vocab())
        self._special = np.zeros(vocab_size(tokenizer), dtype=bool)
        self._special[[n for n, token in tokenizer.added_tokens_decoder.items() if token.special]] = True
        self._special[tokenizer.all_special_ids] = True
        if tokenizer.unk_token_id is not None:  # text of unknown characters, not control
            self._special[tokenizer.unk_token_id] = False
        self._placed = PlacedEncoder(tokenizer, sample, fast=fast)
        self.text = self._placed.text

    def __call__(self, rendered: Sequence[Rendered]) -> Tokens:
        """The ids of all fragments one after another, with their loss mask and cut points.

        Raises:
            DataError: the tokenizer made a special token of text.
        """
        fragments = [fragment for found in rendered for fragment in found.fragments]
        first = np.cumsum([0, *(len(found.fragments) for found in rendered)])
        joints = [
            int(begin) + index
            for begin, found in zip(first, rendered, strict=False)
            for index in found.cut_points.known()
            if 0 < index < len(found.fragments) and _is_one_text(found.fragments[index - 1], found.fragments[index])
        ]
        is_control = np.array([fragment.is_control for fragment in fragments], dtype=bool)
        encoded = self._texts(rendered, [int(number) for number in (np.cumsum(~is_control) - 1)[joints]])
        if (forged := encoded.ids[self._special[encoded.ids]]).size:
            token = self._tokenizer.convert_ids_to_tokens(int(forged[0]))
            raise DataError(f"the tokenizer makes {token!r} of text that spells it; leave that out, or use another one")
        sizes = np.ones(len(fragments), dtype=np.int64)
        sizes[~is_control] = encoded.lengths
        ids = np.empty(int(sizes.sum()), dtype=np.uint32)
        is_control_id = np.repeat(is_control, sizes)
        ids[is_control_id] = [self._control[fragment.text] for fragment in fragments if fragment.is_control]
        ids[~is_control_id] = encoded.ids
        loss_mask = np.repeat(np.array([fragment.is_learned for fragment in fragments], dtype=np.uint8), sizes)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        lengths = ends[first[1:]] - ends[first[:-1]]
        lost = {joint for joint in joints if sizes[joint] == 0}
        cut_points = [
            _in_tokens(found.cut_points, int(begin), ends, lost) for begin, found in zip(first, rendered, strict=False)
        ]
        return Tokens(ids, lengths, loss_mask=loss_mask, cut_points=cut_points)

    def mismatch(self, rendered: Sequence[Rendered]) -> str | None:
        """The first difference from the ids that the tokenizer gives for a whole text, cut by special tokens alone.

        Conversations that spell special tokens are left out: there the tokenizer would find them.
        """
        plain = [found for found in rendered if not found.spells]
        if not plain:
            return None
        wholes = ["".join(fragment.text for fragment in found.fragments) for found in plain]
        ours = self([Rendered(_uncut(found.fragments)) for found in plain]).documents()
        theirs = self._tokenizer(wholes, add_special_tokens=False)["input_ids"]
        for text, mine, wanted in zip(wholes, ours, theirs, strict=True):
            if mine.tolist() != wanted:
                place = next((n for n, pair in enumerate(zip(mine, wanted, strict=False)) if pair[0] != pair[1]), 0)
                got, needed = (self._tokenizer.convert_ids_to_tokens(list(ids[place:][:3])) for ids in (mine, wanted))
                return f"of {text[:60]!r} it makes {needed} from token {place:,} on, and of the parts {got}"
        return None

    def _texts(self, rendered: Sequence[Rendered], joints: list[int]) -> Tokens:
        """The ids of the fragments that are text.

        Args:
            joints: indices of the texts that are one text with the text before. Such a text gets the last ids of the
                joined text if these are its own ids; otherwise it begins within a token, and gets no ids.
        """
        pairs = [
            (fragment.text, self._before(previous))
            for found in rendered
            for previous, fragment in zip([None, *found.fragments], found.fragments, strict=False)
            if not fragment.is_control
        ]
        texts, before = [text for text, _ in pairs], [text for _, text in pairs]
        tokens = self._placed(texts, before)
        if not joints:
            return tokens
        parts = tokens.documents()
        wholes = self._placed([texts[n - 1] + texts[n] for n in joints], [before[n - 1] for n in joints]).documents()
        for number, whole in zip(joints, wholes, strict=True):
            size = len(whole) - len(parts[number])
            if size < 0 or not np.array_equal(whole[size:], parts[number]):
                size = len(whole)
            parts[number - 1 : number + 1] = whole[:size], whole[size:]
        return Tokens.concatenate(parts)

    def _before(self, previous: Fragment | None) -> str | None:
        """The text before a text, as PlacedEncoder takes it."""
        if previous is None or previous.is_control:
            return "" if previous and self._placed.behind_special else None
        return previous.text


def cut_at_answers(rendered: Rendered, template: ChatTemplate, conversation: Conversation) -> Rendered:
    """Cut where the answers of the conversation begin, learned or not: the prompts that led to them ended there.

    Args:
        rendered: the conversation, or the beginning of it.
        template: finds the answers; those that it learns count.

    Raises:
        ConversationError: the template does not find them.
    """
    unmarked: list[bool | None] = [None] * len(conversation.messages)
    every = template.fragments(replace(conversation, learn=unmarked))
    if not "".join(each.text for each in every).startswith("".join(each.text for each in rendered.fragments)):
        return rendered
    starts = [
        place
        for place, (before, fragment) in zip(_places(every)[1:], pairwise(every), strict=False)
        if fragment.is_learned and not before.is_learned
    ]
    fragments: list[Fragment] = []
    indices = []  # where each old fragment begins among the new ones
    for begin, fragment in zip(_places(rendered.fragments), rendered.fragments, strict=False):
        indices.append(len(fragments))
        inside = [start - begin for start in starts if begin < start < begin + len(fragment.text)]
        bounds = [0, *inside, len(fragment.text)]
        fragments += [fragment._replace(text=fragment.text[a:b]) for a, b in pairwise(bounds)]
    indices.append(len(fragments))
    return rendered._replace(fragments=fragments, cut_points=rendered.cut_points.map(indices.__getitem__))


def _places(fragments: Sequence[Fragment]) -> list[int]:
    """Where fragments begin, in characters, and where the last one ends."""
    return list(accumulate((len(fragment.text) for fragment in fragments), initial=0))


def _is_one_text(fragment: Fragment, following: Fragment) -> bool:
    return not fragment.is_control and not following.is_control and fragment.is_learned == following.is_learned


def _uncut(fragments: Sequence[Fragment]) -> list[Fragment]:
    """Text cut by special tokens alone, nothing learned."""
    merged: list[Fragment] = []
    for is_control, group in groupby(fragments, lambda fragment: fragment.is_control):
        texts = [fragment.text for fragment in group]
        merged += [Fragment(text, is_control, False) for text in (texts if is_control else ["".join(texts)])]
    return merged


def _in_tokens(points: CutPoints, begin: int, ends: npt.NDArray[np.int64], lost: set[int]) -> CutPoints:
    """Cut points in tokens, without those that lie within a token.

    Args:
        points: indices of a conversation's fragments, of which the first is fragment `begin` of all.
        ends: where the fragments end in the ids.
        lost: the fragments that begin within a token.
    """

    def known(index: int | None) -> bool:
        return index is not None and begin + index not in lost

    kept = CutPoints(points.first if known(points.first) else None, [index for index in points.later if known(index)])
    return kept.map(lambda index: int(ends[begin + index] - ends[begin]))
