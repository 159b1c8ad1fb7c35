"""A conversation with a model in the terminal, its answers shown as they come, with the chat template that it was
trained with. /reset begins anew, /exit or Ctrl-D ends, Ctrl-C ends an answer.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

from trainyard import COMMAND
from trainyard.commands.generate import add_model_options, sampling, sampling_problems
from trainyard.errors import DataError

HELP = "/reset begins anew, /exit or Ctrl-D ends, Ctrl-C ends an answer"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    if problems := list(sampling_problems(arguments)):
        raise DataError(*problems)
    from trainyard.inference import generate, load

    loaded = load.load(arguments.model, trust_remote_code=arguments.trust_remote_code)
    if not loaded.tokenizer.chat_template:
        raise DataError(
            f"{arguments.model}: its tokenizer has no chat template, so it knows no turns; "
            f"`{COMMAND} generate {arguments.model} TEXT` goes on from a text"
        )
    ends = generate.end_ids(loaded.tokenizer, loaded.variables, loaded.model)
    _note(HELP)
    opening = [] if arguments.system is None else [{"role": "system", "content": arguments.system}]
    messages = list(opening)
    for line in _lines():
        if line == "/exit":
            break
        if line == "/reset":
            messages = list(opening)
            _note("a new conversation")
            continue
        asked = [*messages, {"role": "user", "content": line}]
        try:
            answer = _stream(loaded, asked, ends, sampling(arguments))
        except DataError as error:
            _note(f"{error}; /reset begins anew")
            continue
        messages = [*asked, {"role": "assistant", "content": answer}]
    return 0


def _lines() -> Iterator[str]:
    """The lines that are typed or piped in, without empty ones."""
    is_terminal = sys.stdin.isatty()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if is_terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401, gives input() a history and keys to edit with
    while True:
        try:
            line = input("> " if is_terminal else "").strip()
        except EOFError:
            break
        except KeyboardInterrupt:
            _note(f"\n{HELP}")
            continue
        if line:
            yield line


def _stream(loaded: Any, messages: list[dict[str, Any]], ends: list[int], chosen: Any) -> str:
    """Shows an answer while it is generated, and returns its text: up to Ctrl-C, if that ended it."""
    from trainyard.inference import generate

    ids = generate.encode(loaded.tokenizer, messages, variables=loaded.variables)
    printer = Printer(loaded.tokenizer, ends, lambda text: print(text, end="", flush=True))
    note = None
    try:
        (answer,) = generate.generate(loaded.model, loaded.tokenizer, [ids], ends, chosen, streamer=printer)
        if not answer.finished:
            note = f"cut at {chosen.max_new_tokens:,} tokens or the model's context; --max-new-tokens allows more"
    except KeyboardInterrupt:
        note = "ended by Ctrl-C"
    print(flush=True)
    if note:
        _note(note)
    return printer.text


def _note(text: str) -> None:
    print(f"\033[2m{text}\033[0m" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


class Printer:
    """A streamer for model.generate: shows tokens as they come, in whole characters and without the end tokens.

    Attributes:
        text: what has been shown.
    """

    def __init__(self, tokenizer: Any, ends: list[int], show: Callable[[str], None]):
        self._tokenizer, self._ends, self._show = tokenizer, ends, show
        self._ids: list[int] | None = None
        self.text = ""

    def put(self, ids: Any) -> None:
        if self._ids is None:  # the prompt comes first
            self._ids = []
            return
        self._ids += [token for token in ids.tolist() if token not in self._ends]
        self._flush()

    def end(self) -> None:
        self._flush(whole=True)

    def _flush(self, *, whole: bool = False) -> None:
        text = self._tokenizer.decode(self._ids or [], clean_up_tokenization_spaces=False)
        if whole or not text.endswith("\ufffd"):  # the first bytes of a character
            self._show(text[len(self.text) :])
            self.text = text
