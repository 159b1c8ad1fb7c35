"""trainyard.data.sequences.show."""

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
class Piece:
    """A stretch of a document in a sequence."""

    document: int
    source: str
    first: int
    """Its first token's place in the document."""
    length: int
    document_length: int
    ids: list[int]
    learned: list[bool]

    def title(self) -> str:
        where = f"document {self.document:,} of {self.source}"
        if self.length == self.document_length:
            return f"{where}, whole: {self.length:,} tokens"
        return f"{where}, tokens {self.first:,} to {self.first + self.length - 1:,} of {self.document_length:,}"


def example(dataset: Any, tokenizer: Any, config: Config) -> str:
    """The first sequence of the training as text; what is learned stands between ⟦ and ⟧."""
    (index,) = sample_indices(np.arange(1), len(dataset), config.run.seed)
    pieces = pieces_of(dataset.store, dataset.plan.pieces(int(index)), config)
    return "\n\n".join(f"── {piece.title()}\n{_spelled(tokenizer, piece, marked=True).plain}" for piece in pieces)


def print_piece(output: Console, tokenizer: Any, piece: Piece, *, isolated: bool, inner: bool) -> None:
    sees = "attention starts anew" if isolated else "sees what is before it"
    title = piece.title() + (f", {sum(piece.learned):,} of them learned" if not all(piece.learned) else "")
    output.print(Text(f"── {title}" + (f"; {sees}" if inner else ""), style="bold cyan"))
    output.print(_spelled(tokenizer, piece, marked=not output.is_terminal))


def _spelled(tokenizer: Any, piece: Piece, *, marked: bool) -> Text:
    """The tokens as text, every second one shaded, special ones set off.

    Where only some are learned these are green and, if `marked`, stand between ⟦ and ⟧ for want of colours.
    """
    text = Text()
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    partly = not all(piece.learned)
    pending: list[int] = []
    before = False
    for number, (token, learned) in enumerate(zip([*piece.ids, -1], [*piece.learned, False], strict=True)):
        if partly and marked and learned != before:
            text.append("⟦" if learned else "⟧")
        before = learned
        if token in special:
            colour = "green" if partly and learned else "yellow"
            text.append(tokenizer.convert_ids_to_tokens(token), style=f"black on {colour}")
        elif token >= 0:
            pending.append(token)
            shown = tokenizer.decode(pending)
            following = piece.ids[number + 1 : number + 2]
            if shown.endswith("\ufffd") and len(pending) < 4 and following and following[0] not in special:
                continue  # the first bytes of a character
            shade = " on grey15" if number % 2 else ""
            text.append(shown.translate(_CONTROL), style=f"green{shade}" if partly and learned else shade.strip())
            pending = []
    return text


def pieces_of(store: TokenStore, spans: list[tuple[int, int]], config: Config) -> list[Piece]:
    ends = np.cumsum(store.lengths, dtype=np.int64)
    bounds = np.cumsum([source["documents"] for source in store.summary["sources"]])
    result = []
    for start, stop in spans:
        document = int(np.searchsorted(ends, start, side="right"))
        length = int(store.lengths[document])
        source = config.data.sources[int(np.searchsorted(bounds, document, side="right"))].path
        first = start - (int(ends[document]) - length)
        ids = store.read(start, stop).tolist()
        learned = store.read(start, stop, "loss_mask").astype(bool).tolist() if store.masked else [True] * len(ids)
        result.append(Piece(document, source, first, stop - start, length, ids, learned))
    return result
