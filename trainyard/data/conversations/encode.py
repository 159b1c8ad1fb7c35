"""What a chat template rendered to token ids, in training and at inference."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, groupby, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from trainyard.data.conversations.answers import NOWHERE
from trainyard.data.conversations.formats import Conversation
from trainyard.data.conversations.template import ChatTemplate, Fragment, Rendered
from trainyard.data.tokenization.encoded import Tokens
from trainyard.data.tokenization.placed_encoder import PlacedEncoder
from trainyard.data.tokenization.tokenizer import vocab_size
from trainyard.errors import DataError


class ConversationEncoder:
    """Encodes rendered conversations: special tokens by their number, text as the tokenizer does where it stands.

    A text that is one run is encoded as a whole. Where learning begins it is cut, because the prompt ends there at
    inference; where an exchange begins it is not.

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
        """The ids of all runs one after another, what is learned of them, and where they may be cut.

        Raises:
            DataError: the tokenizer made a special token of text.
        """
        runs = [run for found in rendered for run in found.runs]
        first = np.cumsum([0, *(len(found.runs) for found in rendered)])
        joints = [
            int(begin) + place
            for begin, found in zip(first, rendered, strict=False)
            for place in found.cuts
            if 0 < place < len(found.runs) and _is_one_text(found.runs[place - 1], found.runs[place])
        ]
        control = np.array([run.control for run in runs], dtype=bool)
        encoded = self._texts(rendered, [int(number) for number in (np.cumsum(~control) - 1)[joints]])
        if (forged := encoded.ids[self._special[encoded.ids]]).size:
            token = self._tokenizer.convert_ids_to_tokens(int(forged[0]))
            raise DataError(f"the tokenizer makes {token!r} of text that spells it; leave that out, or use another one")
        sizes = np.ones(len(runs), dtype=np.int64)
        sizes[~control] = encoded.lengths
        ids = np.empty(int(sizes.sum()), dtype=np.uint32)
        is_control = np.repeat(control, sizes)
        ids[is_control] = [self._control[run.text] for run in runs if run.control]
        ids[~is_control] = encoded.ids
        learned = np.repeat(np.array([run.learned for run in runs], dtype=np.uint8), sizes)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        lengths = ends[first[1:]] - ends[first[:-1]]
        lost = {joint for joint in joints if sizes[joint] == 0}
        cuts = [_cuts(found, int(begin), ends, lost) for begin, found in zip(first, rendered, strict=False)]
        return Tokens(ids, lengths, loss_mask=learned, cuts=cuts)

    def mismatch(self, rendered: Sequence[Rendered]) -> str | None:
        """The first difference from what the tokenizer gives for the whole text, cut by special tokens alone.

        Conversations that spell special tokens are left out: there the tokenizer would find them.
        """
        plain = [found for found in rendered if not found.spells]
        if not plain:
            return None
        wholes = ["".join(run.text for run in found.runs) for found in plain]
        ours = self([Rendered(_uncut(found.runs), [], False) for found in plain]).documents()
        theirs = self._tokenizer(wholes, add_special_tokens=False)["input_ids"]
        for text, mine, wanted in zip(wholes, ours, theirs, strict=True):
            if mine.tolist() != wanted:
                place = next((n for n, pair in enumerate(zip(mine, wanted, strict=False)) if pair[0] != pair[1]), 0)
                got, needed = (self._tokenizer.convert_ids_to_tokens(list(ids[place:][:3])) for ids in (mine, wanted))
                return f"of {text[:60]!r} it makes {needed} from token {place:,} on, and of the parts {got}"
        return None

    def _texts(self, rendered: Sequence[Rendered], joints: list[int]) -> Tokens:
        """The ids of the runs that are text.

        Args:
            joints: which of them are one text with the one before. They get the last ids of that text, if it has theirs
                there; if they begin within a token, they get none.
        """
        pairs = [
            (run.text, self._before(previous))
            for found in rendered
            for previous, run in zip([None, *found.runs], found.runs, strict=False)
            if not run.control
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
        """What stands before a text; see PlacedEncoder."""
        if previous is None or previous.control:
            return "" if previous and self._placed.behind_special else None
        return previous.text


def cut_at_answers(rendered: Rendered, template: ChatTemplate, conversation: Conversation) -> Rendered:
    """Cut where the answers of the conversation begin, learned or not: the prompts that led to them ended there.

    Args:
        rendered: the conversation, or what it begins with.
        template: says which answers, those that it learns.

    Raises:
        ConversationError: the template does not find them.
    """
    unmarked: list[bool | None] = [None] * len(conversation.messages)
    every = template.render(replace(conversation, learned=unmarked)).runs
    if not "".join(run.text for run in every).startswith("".join(run.text for run in rendered.runs)):
        return rendered
    starts = [
        place
        for place, (before, run) in zip(_places(every)[1:], pairwise(every), strict=False)
        if run.learned and not before.learned
    ]
    runs: list[Fragment] = []
    numbers = []
    for begin, run in zip(_places(rendered.runs), rendered.runs, strict=False):
        numbers.append(len(runs))
        inside = [start - begin for start in starts if begin < start < begin + len(run.text)]
        runs += [run._replace(text=run.text[a:b]) for a, b in pairwise([0, *inside, len(run.text)])]
    numbers.append(len(runs))
    return rendered._replace(runs=runs, cuts=[cut if cut == NOWHERE else numbers[cut] for cut in rendered.cuts])


def _places(runs: Sequence[Fragment]) -> list[int]:
    """Where runs begin, in characters, and where the last one ends."""
    return list(accumulate((len(run.text) for run in runs), initial=0))


def _is_one_text(run: Fragment, following: Fragment) -> bool:
    return not run.control and not following.control and run.learned == following.learned


def _uncut(runs: Sequence[Fragment]) -> list[Fragment]:
    """Text cut by special tokens alone, nothing learned."""
    merged: list[Fragment] = []
    for control, group in groupby(runs, lambda run: run.control):
        texts = [run.text for run in group]
        merged += [Fragment(text, control, False) for text in (texts if control else ["".join(texts)])]
    return merged


def _cuts(found: Rendered, begin: int, ends: npt.NDArray[np.int64], lost: set[int]) -> list[int]:
    """The places of a conversation's cuts in its ids, of which the first may be NOWHERE."""
    places = [
        NOWHERE if run == NOWHERE or begin + run in lost else int(ends[begin + run] - ends[begin]) for run in found.cuts
    ]
    return places[:1] + [place for place in places[1:] if place < NOWHERE]
