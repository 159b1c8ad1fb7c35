"""python -m trainyard VERB ...: what can be done beside training."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable

from trainyard import checkpoints, checks, dialogue, export, generation, preparation, preview
from trainyard.config import ConfigError, compose
from trainyard.data.sources import DataError
from trainyard.devices import CPU
from trainyard.input_checks import model_problems, source_problems
from trainyard.resolve import resolve
from trainyard.schema import Config
from trainyard.supervisor import FAILED, WRONG
from trainyard.worker import follow_controller

STAGES = ("pretrain", "sft")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trainyard", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, module, summary in (
        ("prepare", preparation, "turn the text of a stage into tokens on disk, before any GPU is claimed"),
        ("preview", preview, "show training sequences as the model will see them"),
    ):
        verb = verbs.add_parser(name, help=summary, description=module.__doc__)
        verb.add_argument("stage", choices=STAGES)
        verb.add_argument("overrides", nargs="*", help="as for the stage itself, as data.block_size=2048")
        module.add_options(verb)
        verb.set_defaults(loose="overrides", run=module.run)
    for name, module, summary, loose in (
        ("generate", generation, "answer a prompt, or a file of prompts", "prompt"),
        ("chat", dialogue, "talk with a model in the terminal", None),
        ("export", export, "merge a LoRA adapter into its base model", None),
        ("checkpoints", checkpoints, "list, verify or delete the checkpoints of a run", None),
    ):
        verb = verbs.add_parser(name, help=summary, description=module.__doc__)
        module.add_options(verb)
        verb.set_defaults(stage=None, loose=loose, run=module.run)
    arguments, rest = parser.parse_known_args()  # what is not an option may stand behind options
    if unknown := [word for word in rest if word.startswith("-") or not arguments.loose]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        getattr(arguments, arguments.loose).extend(rest)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that helpers are ended
    follow_controller()
    return _guarded(arguments)


def _guarded(arguments: argparse.Namespace) -> int:
    run: Callable[..., int] = arguments.run
    if arguments.stage:
        arguments.overrides = [*arguments.overrides, *json.loads(os.environ.pop(preparation.OVERRIDES, "[]"))]
    try:
        return run(_config(arguments.stage, arguments.overrides), arguments) if arguments.stage else run(arguments)
    except (ConfigError, DataError) as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return WRONG
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _config(stage: str, overrides: list[str]) -> Config:
    """The checked config of a stage, as far as its data goes.

    Raises:
        ConfigError: with everything that is wrong.
    """
    config = compose(stage, overrides)
    resolve(config, overrides, CPU, {})  # a plan of the data needs no device
    problems = [*checks.choice_and_number_problems(config), *source_problems(config), *model_problems(config)]
    if problems:
        raise ConfigError(problems)
    return config


if __name__ == "__main__":
    sys.exit(main())
