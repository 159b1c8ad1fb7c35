"""Shows whole training sequences in the order of the training: the documents in each, where these begin and end,
special tokens, where isolation cuts, and the tokens that are not learned. Prepares the data first if need be.
"""

import argparse
import json

import numpy as np
from rich.console import Console
from rich.text import Text

from trainyard.commands.prepare import add_stage, checked_config, ready
from trainyard.data.preparation.request import data_request
from trainyard.data.sequences import page
from trainyard.data.sequences.order import sample_indices
from trainyard.data.sequences.show import passages, print_passage
from trainyard.errors import DataError


def add_options(parser: argparse.ArgumentParser) -> None:
    add_stage(parser)
    parser.add_argument("--count", type=int, default=2, help="sequences to show (default 2)")
    parser.add_argument("--start", type=int, default=0, help="position in the order of the training (default 0)")
    parser.add_argument("--html", metavar="FILE", help="write the same, in colour, for a browser")
    parser.add_argument("--json", action="store_true", help="one JSON object per sequence, on standard output")


def run(arguments: argparse.Namespace) -> int:
    """
    Raises:
        ConfigError, DataError: with everything that is wrong.
    """
    config = checked_config(arguments)
    if not 0 <= arguments.start < 2**62 or arguments.count < 1:
        raise DataError(f"--start {arguments.start} --count {arguments.count}: positions count from 0, and 1 is least")
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    prepared = ready(data_request(config), screen, arguments.overrides)
    # Heavy imports, once there is something to show.
    from trainyard.data.batches.collator import Collator
    from trainyard.data.batches.dataset import open_datasets
    from trainyard.data.tokenization import tokenizer as tokenizers

    dataset = open_datasets(prepared.store, config.data, config.run.seed).train
    tokenizer = tokenizers.load(prepared.tokenizer, trust_remote_code=config.model.trust_remote_code)
    positions = np.arange(arguments.start, arguments.start + arguments.count)
    collator = Collator(config.data.sequence_length, config.data.isolate_documents)
    output = Console(highlight=False, soft_wrap=True, record=bool(arguments.html))
    for position, index in zip(positions, sample_indices(positions, len(dataset), config.run.seed), strict=True):
        sample = dataset[index]
        batch = {name: tensor[0].tolist() for name, tensor in collator([sample]).items()}
        found = passages(dataset.store, dataset.plan.spans(int(index)), config)
        if arguments.json:
            places = [passage.place() for passage in found]
            print(json.dumps({"position": int(position), "sequence": int(index), **batch, "pieces": places}))
            continue
        learned = sum(label >= 0 for label in batch["labels"][1:])
        title = (
            f"position {position:,}: sequence {index:,} of {len(dataset):,}, {len(sample['input_ids']):,} of "
            f"{config.data.sequence_length:,} places filled, {learned:,} predictions learned"
        )
        output.print(Text(f"═══ {title}", style="bold"))
        for number, passage in enumerate(found):
            print_passage(output, tokenizer, passage, isolated=config.data.isolate_documents, inner=number > 0)
        if filling := config.data.sequence_length - len(sample["input_ids"]):
            output.print(Text(f"── {filling:,} places of filling, not learned", style="dim"))
    if arguments.html:
        page.save(output, arguments.html)
    return 0
