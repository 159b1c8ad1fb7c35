"""Training sequences as text, for `preview` and for a run's example.txt: where documents begin, which tokens are
special, and which are learned.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from trainyard.config.schema import Config
from trainyard.data.sequences.order import sample_indices
from trainyard.data.store import TokenStore

_CONTROL = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}
"""Control characters as the pictures of them that Unicode has; a terminal would obey them."""


@dataclass(frozen=True)
class Passage:
    """A stretch of one document in a sequence."""

    document: int
    """Its number in the store."""
    source: str
    """The path of its source."""
    first: int
    """The place of the passage's first token in the document."""
    length: int
    """Tokens of the passage."""
    document_length: int
    """Tokens of the document."""
    ids: list[int]
    loss_mask: list[bool]

    def place(self) -> dict[str, Any]:
        """Where the passage comes from, for a row of JSON: all fields but the tokens."""
        return {name: value for name, value in vars(self).items() if name not in ("ids", "loss_mask")}

    def title(self) -> str:
        """The same as a line of text."""
        where = f"document {self.document:,} of {self.source}"
        if self.length == self.document_length:
            return f"{where}, whole: {self.length:,} tokens"
        return f"{where}, tokens {self.first:,} to {self.first + self.length - 1:,} of {self.document_length:,}"


def passages(store: TokenStore, spans: list[tuple[int, int]], config: Config) -> list[Passage]:
    """The passages of a sequence, for its [start, stop) ranges of the store; see Plan.spans."""
    ends = np.cumsum(store.lengths, dtype=np.int64)
    bounds = np.cumsum([source.documents for source in store.summary.sources])
    result = []
    for start, stop in spans:
        document = int(np.searchsorted(ends, start, side="right"))
        length = int(store.lengths[document])
        source = config.data.sources[int(np.searchsorted(bounds, document, side="right"))].path
        first = start - (int(ends[document]) - length)
        ids = store.read(start, stop).tolist()
        loss_mask = store.read(start, stop, "loss_mask").astype(bool).tolist() if store.masked else [True] * len(ids)
        result.append(Passage(document, source, first, stop - start, length, ids, loss_mask))
    return result


def example(dataset: Any, tokenizer: Any, config: Config) -> str:
    """The first sequence of the training as text, the learned tokens between ⟦ and ⟧."""
    (index,) = sample_indices(np.arange(1), len(dataset), config.run.seed)
    found = passages(dataset.store, dataset.plan.spans(int(index)), config)
    return "\n\n".join(f"── {passage.title()}\n{_spelled(tokenizer, passage, marked=True).plain}" for passage in found)


def print_passage(output: Console, tokenizer: Any, passage: Passage, *, isolated: bool, inner: bool) -> None:
    """Prints a passage with its title.

    Args:
        isolated: is attention kept within the passage's document?
        inner: does another passage of the sequence stand before it?
    """
    sees = "attention starts anew" if isolated else "sees what is before it"
    learned = f", {sum(passage.loss_mask):,} of them learned" if not all(passage.loss_mask) else ""
    title = passage.title() + learned
    output.print(Text(f"── {title}" + (f"; {sees}" if inner else ""), style="bold cyan"))
    output.print(_spelled(tokenizer, passage, marked=not output.is_terminal))


def _spelled(tokenizer: Any, passage: Passage, *, marked: bool) -> Text:
    """The tokens as text, every second token shaded, special tokens set off.

    Where only some tokens are learned, these are green and, if `marked`, stand between ⟦ and ⟧ (without colours).
    """
    text = Text()
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    partly = not all(passage.loss_mask)
    pending: list[int] = []
    before = False
    for number, (token, learned) in enumerate(zip([*passage.ids, -1], [*passage.loss_mask, False], strict=True)):
        if partly and marked and learned != before:
            text.append("⟦" if learned else "⟧")
        before = learned
        if token in special:
            colour = "green" if partly and learned else "yellow"
            text.append(tokenizer.convert_ids_to_tokens(token), style=f"black on {colour}")
        elif token >= 0:
            pending.append(token)
            shown = tokenizer.decode(pending)
            following = passage.ids[number + 1 : number + 2]
            if shown.endswith("\ufffd") and len(pending) < 4 and following and following[0] not in special:
                continue  # the first bytes of a character
            shade = " on grey15" if number % 2 else ""
            text.append(shown.translate(_CONTROL), style=f"green{shade}" if partly and learned else shade.strip())
            pending = []
    return text
