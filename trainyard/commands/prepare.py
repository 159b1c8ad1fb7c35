"""Tokenizes the sources of a stage once, with a progress bar, and describes the result. The last line of standard
output is one JSON object. The same command again finds the result; after a kill it goes on from the finished parts.
"""

import argparse
import contextlib
import gc
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from trainyard import COMMAND
from trainyard.checkpoint.directory import no_space
from trainyard.checks import left_out
from trainyard.checks import request as checks
from trainyard.checks.filled_in import lines
from trainyard.checks.inputs import path_problems, source_problems
from trainyard.checks.models import model_problems
from trainyard.checks.resolve import resolve
from trainyard.config.compose import compose
from trainyard.config.schema import Config
from trainyard.config.stages import STAGES
from trainyard.data.preparation import prepare
from trainyard.data.preparation.processes import OVERRIDES, bound_heap, helpers
from trainyard.data.preparation.request import DataRequest, Prepared, Share, data_request
from trainyard.data.preparation.summary import histogram, summarize
from trainyard.data.store import StoreSummary
from trainyard.errors import ConfigError, DataError, FinalError
from trainyard.files import disk_is_full, is_forbidden
from trainyard.machine.devices import CPU

OF_DATA = ("data", "tokenizer", "model.path")
"""Settings that a preparation depends on, by the start of their names."""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_stage(parser)
    parser.add_argument(
        "--shard", metavar="I/N", help="do share I of N alone, on N nodes at once; the last to finish publishes"
    )
    parser.add_argument(
        "--processes",
        type=int,
        help="processes on this machine (default: by the size and the cores, more for conversations than for text)",
    )
    parser.add_argument("--helper", action="store_true", help=argparse.SUPPRESS)


def add_stage(parser: argparse.ArgumentParser) -> None:
    """The words of verbs that work on a stage's data: its name, and overrides in Hydra's grammar."""
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("overrides", nargs="*", help="as for the stage itself, as data.block_size=2048")


def run(arguments: argparse.Namespace) -> int:
    """
    Raises:
        ConfigError, DataError: with everything that is wrong.
    """
    bound_heap()  # before anything is said or taken from the environment, for it may start the command again
    config = checked_config(arguments)
    gc.set_threshold(100_000)  # rather than 700: conversations are many small objects, none of them in a cycle
    request = data_request(config)
    share = parse_share(arguments.shard)
    if arguments.processes is not None and arguments.processes < 1:
        raise DataError(f"--processes {arguments.processes}: must be at least 1")
    if arguments.helper:
        with contextlib.suppress(DataError):  # the process that is helped meets the same problem and names it
            prepare.prepare(request, _encoder(config.stage), lambda done, total: None, share=share, helping=True)
        return 0
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    prepared = ready(request, screen, arguments.overrides, share=share, processes=arguments.processes)
    if prepared is None:
        screen.print(
            f"share {arguments.shard} is done and others are not; whoever finishes the last publishes the store"
        )
        print(json.dumps({"prepared": None, "share": arguments.shard}))
        return 0
    summary = summarize(prepared, request)
    _describe(screen, prepared, summary)
    config.data.prepared = str(prepared.store)
    for line in left_out.warning(config):
        screen.print(line)
    print(json.dumps(summary | {"tokenizer": prepared.tokenizer}))
    return 0


def checked_config(arguments: argparse.Namespace) -> Config:
    """The stage's config, resolved and checked as far as its data goes.

    Shows the values that the user did not give. A parent process may hand over further overrides in the environment,
    because everybody can read a command line; then the parent has shown the values.

    Raises:
        ConfigError: with everything that is wrong.
    """
    handed_over = os.environ.pop(OVERRIDES, None)
    arguments.overrides += json.loads(handed_over or "[]")
    config = compose(arguments.stage, arguments.overrides)
    filled_in = resolve(config, arguments.overrides, CPU, {})  # a plan of the data needs no device
    problems = [*checks.choice_and_number_problems(config), *path_problems(config)]
    problems += [*source_problems(config), *model_problems(config)]
    if problems:
        raise ConfigError(problems)
    if handed_over is None:
        for line in lines([each for each in filled_in if each.key.startswith(OF_DATA)]):
            print(line, file=sys.stderr)
    return config


def parse_share(text: str | None) -> Share | None:
    """`2/4` as a share. I counts from 1 to N or from 0 to N - 1, as array tasks do.

    Raises:
        DataError: the text has another form, or I lies outside.
    """
    if text is None:
        return None
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 0 <= int(index) <= int(count) and int(count) > 0):
        raise DataError(f"--shard {text}: must be I/N, as 2/4 for the second of four shares")
    return Share(int(index), int(count))


def ready(
    request: DataRequest,
    screen: Console,
    overrides: list[str],
    *,
    share: Share | None = None,
    processes: int | None = None,
) -> Any:
    """The prepared data of a stage, made now if it is not there; None when shares of others are missing.

    Raises:
        FinalError: the disk or the memory was not enough.
    """
    prepared = prepare.find(request)
    if prepared is not None:
        return prepared
    with _explained(request), _bar(screen) as report, helpers(request, overrides, share, processes):
        return prepare.prepare(request, _encoder(request.stage), report, share=share)


@contextlib.contextmanager
def _explained(request: DataRequest) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        fewer = f"prepare by `{COMMAND} prepare {request.stage} --processes 1` and the same settings"
        raise FinalError(f"out of memory while preparing the data: {fewer}, or divide the files") from error
    except Exception as error:
        if disk_is_full(error):
            raise FinalError(no_space(request.outputs / "prepared", error)) from error
        if is_forbidden(error):
            name = getattr(error, "filename", None) or request.outputs
            whose = f"{name}: this account may not write there, and the data is not prepared yet"
            raise DataError(f"{whose}; set paths.outputs to a folder of yours, or ask its owner (chmod g+w)") from error
        raise


def _encoder(stage: str) -> Any:
    """The stage's own class that turns documents into token ids."""
    return importlib.import_module(STAGES[stage].encoder_module).Encoder


@contextlib.contextmanager
def _bar(screen: Console) -> Iterator[Callable[[int, int], None]]:
    """Yields `report(bytes_done, bytes_in_all)`, which draws a bar on a terminal and does nothing elsewhere."""
    if not screen.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("preparing"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task("prepare", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


def _describe(screen: Console, prepared: Prepared, summary: dict[str, Any]) -> None:
    """The figures of a prepared store, and a histogram of the documents' lengths in tokens."""
    store = StoreSummary.read(prepared.store)
    screen.print(f"tokenized by {store.tokenizer_backend}: {store.backend_reason}")
    table = Table("prepared", "", show_header=False)
    figures = ("documents", "held_out", "rejected", "empty", "cut", "dropped", "tokens", "learned_tokens")
    for key in (key for key in (*figures, "bytes_per_token", "sequences", "tail") if key in summary):
        table.add_row(key.replace("_", " "), f"{summary[key]:,}")
    table.add_row("fill", f"{summary['fill']:.2%}")
    table.add_row("seconds", f"{summary['seconds']:,.1f} ({summary['mb_per_s']:,.1f} MB/s)")
    screen.print(table)
    counts = histogram(prepared)
    bars = Table("tokens per document", "documents", "", box=None)
    most = max(count for _, count in counts)
    for bound, count in counts:
        bars.add_row(
            f"{bound // 2 + 1:,} to {bound:,}" if bound > 2 else f"{bound}", f"{count:,}", "█" * -(-40 * count // most)
        )
    screen.print(bars)
    for line in summary["notes"]:
        screen.print(line)
    if not summary["sequences"]:
        screen.print("there is nothing to train on: not one sequence. Use a smaller data.block_size or more text")
    if summary["rejected"]:
        screen.print(f"left out: {prepared.store / 'rejected.jsonl'}")
