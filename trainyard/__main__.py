"""python -m trainyard VERB ...: what can be done beside training."""

import argparse
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from trainyard.config.stages import STAGES
from trainyard.errors import FAILED, WRONG
from trainyard.machine.processes import follow_controller

if TYPE_CHECKING:
    from trainyard.config.schema import Config


class Verb(NamedTuple):
    """A verb is a module with `add_options` and `run`, imported when it is asked for."""

    module: str
    summary: str
    loose: str | None = None
    """The argument whose words may stand behind options too."""
    has_config: bool = False
    """Does it take a stage and its overrides, and get their config?"""


VERBS = {
    "prepare": Verb(
        "trainyard.commands.prepare", "turn the text of a stage into tokens on disk, before any GPU is claimed",
        "overrides", has_config=True,
    ),
    "preview": Verb(
        "trainyard.commands.preview", "show training sequences as the model will see them", "overrides", has_config=True
    ),
    "generate": Verb("trainyard.commands.generate", "answer a prompt, or a file of prompts", "prompt"),
    "chat": Verb("trainyard.commands.chat", "talk with a model in the terminal"),
    "export": Verb("trainyard.commands.export", "merge a LoRA adapter into its base model"),
    "checkpoints": Verb("trainyard.commands.checkpoints", "list, verify or delete the checkpoints of a run"),
    "runs": Verb("trainyard.commands.runs", "list, show, compare or watch runs, and tell which is best", "names"),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trainyard", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, verb in VERBS.items():
        child = verbs.add_parser(name, help=verb.summary)
        if name in sys.argv[1:2]:
            _fill(child, verb)
    arguments, rest = parser.parse_known_args()  # what is not an option may stand behind options
    loose = getattr(arguments, VERBS[arguments.verb].loose or "", None)
    if unknown := [word for word in rest if word.startswith("-") or loose is None]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if loose is not None:
        loose.extend(rest)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that helpers are ended
    follow_controller()
    return _guarded(arguments)


def _fill(parser: argparse.ArgumentParser, verb: Verb) -> None:
    module = importlib.import_module(verb.module)
    parser.description = module.__doc__
    if verb.has_config:
        parser.add_argument("stage", choices=tuple(STAGES))
        parser.add_argument("overrides", nargs="*", help="as for the stage itself, as data.block_size=2048")
    module.add_options(parser)
    parser.set_defaults(run=module.run)


def _guarded(arguments: argparse.Namespace) -> int:
    run: Callable[..., int] = arguments.run
    try:
        if VERBS[arguments.verb].has_config:
            from trainyard.data.preparation.processes import OVERRIDES

            arguments.overrides += json.loads(os.environ.pop(OVERRIDES, "[]"))
            return run(_config(arguments.stage, arguments.overrides), arguments)
        return run(arguments)
    except ValueError as error:  # a ConfigError or a DataError; naming them would import Hydra for every verb
        if not hasattr(error, "problems"):
            raise
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return WRONG
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _config(stage: str, overrides: list[str]) -> "Config":
    """The checked config of a stage, as far as its data goes.

    Raises:
        ConfigError: with everything that is wrong.
    """
    from trainyard.checks import request
    from trainyard.checks.inputs import model_problems, source_problems
    from trainyard.checks.resolve import resolve
    from trainyard.config.compose import compose
    from trainyard.errors import ConfigError
    from trainyard.machine.devices import CPU

    config = compose(stage, overrides)
    resolve(config, overrides, CPU, {})  # a plan of the data needs no device
    problems = [*request.choice_and_number_problems(config), *source_problems(config), *model_problems(config)]
    if problems:
        raise ConfigError(problems)
    return config


if __name__ == "__main__":
    sys.exit(main())
