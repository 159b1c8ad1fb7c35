"""The command: `trainyard VERB ...`, and `python -m trainyard VERB ...`, which is the same.

This module imports next to nothing: a stop signal that comes while Python starts must not be lost.
"""

import sys

from trainyard.config.stages import STAGES
from trainyard.machine.signals import StopSignals


def main() -> int:
    """Runs the command in sys.argv and returns its exit code: `trainyard VERB ...` and `python -m trainyard VERB ...`.

    A stage's name trains, with all that follows left to Hydra. Any other verb is a module of trainyard/commands.
    """
    if sys.argv[1:2] and sys.argv[1] in STAGES:
        with StopSignals() as stop:  # before the other imports, so that no signal is lost
            from trainyard.commands import train

            return train.main(sys.argv[1], sys.argv[2:], stop)
    from trainyard.commands import verbs

    return verbs.main()


if __name__ == "__main__":
    sys.exit(main())
