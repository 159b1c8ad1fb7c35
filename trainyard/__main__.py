"""python -m trainyard VERB ...: what can be done beside training."""

import argparse
import importlib
import json
import signal
import sys

from rich.console import Console
from rich.table import Table

from trainyard import checks
from trainyard.config import ConfigError, compose
from trainyard.data import prepare, sources
from trainyard.devices import CPU
from trainyard.input_checks import model_problems, source_problems
from trainyard.resolve import data_request, resolve
from trainyard.supervisor import WRONG

STAGES = ("pretrain",)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trainyard", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser(
        "prepare",
        help="turn the text of a stage into tokens on disk, before any GPU is claimed",
        description="Tokenizes the sources of a stage once. Ends with one line of JSON on standard output.",
    )
    verb.add_argument("stage", choices=STAGES)
    verb.add_argument("overrides", nargs="*", help="as for the stage itself, as data.block_size=2048")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what is half made is taken away
    try:
        return _prepare(arguments.stage, arguments.overrides)
    except (ConfigError, sources.DataError) as error:
        for problem in getattr(error, "problems", [str(error)]):
            print(f"error: {problem}", file=sys.stderr)
        return WRONG


def _prepare(stage: str, overrides: list[str]) -> int:
    config = compose(stage, overrides)
    resolve(config, overrides, CPU, {})  # a plan of the data needs no device
    problems = [*checks.choice_and_number_problems(config), *source_problems(config), *model_problems(config)]
    if problems:
        raise ConfigError(problems)
    request = data_request(config)
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    prepared = prepare.find(request)
    if prepared is None:
        # The stage's own way from text to ids; trainyard imports neither stage by name.
        encode = importlib.import_module(f"{stage}.encode")
        with screen.status("preparing the data") as status:
            prepared = prepare.prepare(
                request,
                encode.Encoder,
                lambda count, characters: status.update(
                    f"preparing the data: {count:,} documents, {characters / 1e6:,.1f} M characters"
                ),
            )
    summary = prepare.summarize(prepared, config.data) | {"tokenizer": prepared.tokenizer}
    store = prepare.read_summary(prepared)
    screen.print(f"tokenized by {store['tokenizer_backend']}: {store['backend_reason']}")
    table = Table("prepared", "", show_header=False)
    for key in ("documents", "held_out", "tokens", "sequences", "tail", "mb_per_s"):
        table.add_row(key.replace("_", " "), f"{summary[key]:,}")
    screen.print(table)
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
