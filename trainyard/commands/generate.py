"""Answers a prompt, or a file of prompts as JSON lines, with the chat template that the model was trained with. A model
whose tokenizer has no chat template continues the prompt.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from trainyard.errors import DataError
from trainyard.inference import prompts
from trainyard.inference.prompts import Prompt

MODEL = "a run's directory (outputs/sft/NAME), a model's, an adapter's or a hub id"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    parser.add_argument("prompt", nargs="*", help="what to answer, one argument; the answer goes to standard output")
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        help='a prompt per line, or in FILE.jsonl an object per line: {"prompt": ...} or {"messages": [...]}',
    )
    parser.add_argument("--output", metavar="FILE.jsonl", help="a new file for the answers, instead of standard output")
    parser.add_argument("--plain", action="store_true", help="go on from the prompt, without the chat template")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=1,
        help="prompts at once (default 1); more is faster on a GPU, where rounding may then change an answer",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `generate` and `chat` share."""
    parser.add_argument("model", help=MODEL)
    parser.add_argument("--system", metavar="TEXT", help="a system message, where a conversation brings none")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="an answer's longest (default 512)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0, the default: the likeliest token, always")
    parser.add_argument("--top-p", type=float, default=1.0, help="of the likeliest tokens with this share (default 1)")
    parser.add_argument("--seed", type=int, help="an answer follows from its prompt and this")
    parser.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with the model")


def run(arguments: argparse.Namespace) -> int:
    problems = [*sampling_problems(arguments), *_file_problems(arguments)]
    if problems:
        raise DataError(*problems)
    asked = prompts.read(arguments.prompts) if arguments.prompts else [prompts.simple(*arguments.prompt)]
    # Heavy imports, once the request is known to be good.
    from trainyard.inference import generate, load

    model, tokenizer, variables = load.load(arguments.model, trust_remote_code=arguments.trust_remote_code)
    encoded = _encode(asked, tokenizer, variables, arguments)
    ends, chosen = generate.end_ids(tokenizer, variables, model), sampling(arguments)
    finished = 0
    with _output(arguments.output) as stream:
        for start in range(0, len(asked), arguments.batch_size):
            batch = slice(start, start + arguments.batch_size)
            answers = generate.generate(model, tokenizer, encoded[batch], ends, chosen)
            finished += sum(answer.finished for answer in answers)
            for prompt, answer in zip(asked[batch], answers, strict=True):
                row = prompt.row | {"response": answer.text, "finished": answer.finished}
                in_lines = arguments.prompts or arguments.output
                print(json.dumps(row, ensure_ascii=False) if in_lines else answer.text, file=stream, flush=True)
    if finished < len(asked):
        print(
            f"{len(asked) - finished:,} of {len(asked):,} answers were cut at {chosen.max_new_tokens:,} tokens "
            f"or the model's context; --max-new-tokens allows more",
            file=sys.stderr,
        )
    return 0


def sampling(arguments: argparse.Namespace) -> Any:
    from trainyard.inference.generate import Sampling

    return Sampling(arguments.max_new_tokens, arguments.temperature, arguments.top_p, arguments.seed)


def sampling_problems(arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.max_new_tokens < 1:
        yield f"--max-new-tokens {arguments.max_new_tokens}: must be 1 or more"
    if not 0 <= arguments.temperature < float("inf"):
        yield f"--temperature {arguments.temperature}: must be 0, for the likeliest token, or more"
    if not 0 < arguments.top_p <= 1:
        yield f"--top-p {arguments.top_p}: must be above 0, and 1 at most"
    if arguments.top_p < 1 and arguments.temperature == 0:
        yield f"--top-p {arguments.top_p}: of no effect at --temperature 0; set --temperature, as to 0.7"
    if arguments.seed is not None and not 0 <= arguments.seed < 2**63:
        yield f"--seed {arguments.seed}: must be 0 or more, and below 2**63"


def _file_problems(arguments: argparse.Namespace) -> Iterator[str]:
    if bool(arguments.prompt) == (arguments.prompts is not None):
        yield "give a prompt or --prompts FILE, one of the two"
    if len(arguments.prompt) > 1:
        yield f"{len(arguments.prompt)} prompts: give one, in quotes if it has spaces, or --prompts FILE"
    if arguments.prompt == [""]:
        yield "the prompt is empty; write what is to be answered"
    if arguments.batch_size < 1:
        yield f"--batch-size {arguments.batch_size}: must be 1 or more"
    if arguments.output and Path(arguments.output).exists():
        yield f"--output {arguments.output}: it exists, and is not overwritten; give another name or remove it"
    elif arguments.output and not Path(arguments.output).absolute().parent.is_dir():
        yield f"--output {arguments.output}: there is no directory {Path(arguments.output).absolute().parent}; make it"


@contextlib.contextmanager
def _output(file: str | None) -> Iterator[IO[str]]:
    """Standard output, or a new file. It is made after the model is loaded, so that an earlier error leaves no file."""
    if file is None:
        yield sys.stdout
        return
    try:
        with Path(file).open("x", encoding="utf-8") as stream:
            yield stream
    except OSError as error:
        raise DataError(f"--output {file}: it cannot be written: {error}") from error


def _encode(asked: list[Prompt], tokenizer: Any, variables: Any, arguments: argparse.Namespace) -> list[list[int]]:
    """The token ids of every prompt.

    Raises:
        DataError: prompts cannot be encoded; the first ones are named.
    """
    from trainyard.inference import generate

    is_plain = arguments.plain or not tokenizer.chat_template
    why = "--plain goes on from text" if arguments.plain else f"the tokenizer of {arguments.model} has no chat template"
    if is_plain and arguments.system is not None:
        raise DataError(f"--system {arguments.system}: {why}, where there are no messages; leave it out")
    encoded: list[list[int]] = []
    problems: list[str] = []
    for number, (row, messages, tools) in enumerate(asked, 1):
        try:
            if is_plain and "prompt" not in row:
                raise DataError(f"{why}, where there are no messages; give a prompt")
            if arguments.system is not None and messages[0]["role"] != "system":
                messages = [{"role": "system", "content": arguments.system}, *messages]
            said = row["prompt"] if is_plain else messages
            encoded.append(generate.encode(tokenizer, said, tools=tools, variables=variables))
        except DataError as error:
            problems.append(f"prompt {number:,}: {error}")
    if problems:
        raise DataError(*problems[: prompts.SHOWN])
    return encoded
