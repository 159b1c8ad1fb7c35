"""The verbs beside training: which there are, how their command lines are read, and what their errors become."""

import argparse
import importlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from trainyard.config.stages import STAGES
from trainyard.errors import FAILED, WRONG, FinalError, RequestError
from trainyard.files import NoLocksError
from trainyard.machine.processes import follow_controller

DESCRIPTION = "Trains language models, and does what comes before and after a training."


class Verb(NamedTuple):
    """A row of the table of verbs. The verb is the module of this package that has its name."""

    summary: str
    """Its line in `trainyard --help`."""
    words: str | None = None
    """The argument that takes a list of words, which may then stand behind options as well as before them."""


VERBS = {
    "prepare": Verb("turn the text of a stage into tokens on disk, before any GPU is claimed", words="overrides"),
    "preview": Verb("show training sequences as the model will see them", words="overrides"),
    "generate": Verb("answer a prompt, or a file of prompts", words="prompt"),
    "chat": Verb("talk with a model in the terminal"),
    "export": Verb("merge a LoRA adapter into its base model"),
    "checkpoints": Verb("list, verify or delete the checkpoints of a run"),
    "runs": Verb("list, show, compare or watch runs, and tell which is best", words="names"),
}
"""Each module has `add_options(parser)` and `run(arguments)`. Only the module of the verb in use is imported."""


def main() -> int:
    """Reads sys.argv, runs its verb and returns the exit code.

    Exit codes: 0 done; 1 the system refused (a disk, a permission); 2 the request is wrong, as argparse has it too.
    """
    try:
        arguments = _arguments()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(FAILED))  # an exit like any other ends the helpers, too
        follow_controller()
        run: Callable[[argparse.Namespace], int] = arguments.run
        return run(arguments)
    except RequestError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return WRONG
    except (OSError, FinalError) as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG if isinstance(error, NoLocksError) else FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _arguments() -> argparse.Namespace:
    name = "python -m trainyard" if Path(sys.argv[0]).name == "__main__.py" else "trainyard"
    parser = argparse.ArgumentParser(prog=name, description=DESCRIPTION)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for stage in STAGES.values():
        verbs.add_parser(stage.name, help=f"{stage.summary}; --help lists the settings")
    for name, verb in VERBS.items():
        child = verbs.add_parser(name, help=verb.summary)
        if name in sys.argv[1:2]:
            module = importlib.import_module(f"trainyard.commands.{name}")
            child.description = module.__doc__
            module.add_options(child)
            child.set_defaults(run=module.run)
    arguments, rest = parser.parse_known_args()
    words = getattr(arguments, VERBS[arguments.verb].words or "", None)
    if unknown := [word for word in rest if word.startswith("-") or words is None]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if words is not None:
        words.extend(rest)
    return arguments
