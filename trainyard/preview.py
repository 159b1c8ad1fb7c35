"""Shows whole training sequences in the order of the training: which documents they are made of and where these begin
and end, special tokens, where isolation cuts, and what is not learned. Prepares the data first if need be.
"""

import argparse
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from trainyard.data.order import sample_indices
from trainyard.data.sources import DataError
from trainyard.data.store import TokenStore
from trainyard.preparation import ready
from trainyard.resolve import data_request
from trainyard.schema import Config


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=2, help="sequences to show (default 2)")
    parser.add_argument("--start", type=int, default=0, help="position in the order of the training (default 0)")
    parser.add_argument("--html", metavar="FILE", help="write the same, in colour, for a browser")
    parser.add_argument("--json", action="store_true", help="one JSON object per sequence, on standard output")


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


def run(config: Config, arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.start < 2**62 or arguments.count < 1:
        raise DataError(f"--start {arguments.start} --count {arguments.count}: positions count from 0, and 1 is least")
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    prepared = ready(data_request(config), screen, arguments.overrides)
    # Heavy imports, once it is known that there is something to show.
    from trainyard.data import tokenizer as tokenizers
    from trainyard.data.dataset import Collator, open_datasets

    dataset = open_datasets(prepared.store, config.data, config.run.seed).train
    tokenizer = tokenizers.load(prepared.tokenizer, trust_remote_code=config.model.trust_remote_code)
    positions = np.arange(arguments.start, arguments.start + arguments.count)
    collator = Collator(config.data.block_size, config.data.isolate_documents)
    output = Console(highlight=False, soft_wrap=True, record=bool(arguments.html))
    for position, index in zip(positions, sample_indices(positions, len(dataset), config.run.seed), strict=True):
        sample = dataset[index]
        batch = {name: tensor[0].tolist() for name, tensor in collator([sample]).items()}
        pieces = _pieces(dataset.store, dataset.plan.pieces(int(index)), config)
        if arguments.json:
            described = [{k: v for k, v in vars(piece).items() if k not in ("ids", "learned")} for piece in pieces]
            print(json.dumps({"position": int(position), "sequence": int(index), **batch, "pieces": described}))
            continue
        learned = sum(label >= 0 for label in batch["labels"][1:])
        title = (
            f"position {position:,}: sequence {index:,} of {len(dataset):,}, {len(sample['input_ids']):,} of "
            f"{config.data.block_size:,} places filled, {learned:,} predictions learned"
        )
        output.print(Text(f"═══ {title}", style="bold"))
        for number, piece in enumerate(pieces):
            _show(output, tokenizer, piece, isolated=config.data.isolate_documents, inner=number > 0)
        if filling := config.data.block_size - len(sample["input_ids"]):
            output.print(Text(f"── {filling:,} places of filling, not learned", style="dim"))
    if arguments.html:
        output.save_html(arguments.html)
    return 0


def example(dataset: Any, tokenizer: Any, config: Config) -> str:
    """The first sequence of the training as text; what is learned stands between ⟦ and ⟧."""
    (index,) = sample_indices(np.arange(1), len(dataset), config.run.seed)
    pieces = _pieces(dataset.store, dataset.plan.pieces(int(index)), config)
    return "\n\n".join(f"── {piece.title()}\n{_spelled(tokenizer, piece, marked=True).plain}" for piece in pieces)


def _show(output: Console, tokenizer: Any, piece: Piece, *, isolated: bool, inner: bool) -> None:
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


def _pieces(store: TokenStore, spans: list[tuple[int, int]], config: Config) -> list[Piece]:
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
