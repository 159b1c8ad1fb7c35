"""python -m pretrain [overrides]: the controller of a pretraining run."""

import sys

from trainyard.machine.signals import StopSignals

if __name__ == "__main__":
    with StopSignals() as stop:  # before the other imports, so that no signal is lost
        from trainyard.commands.train import main

        sys.exit(main("pretrain", sys.argv[1:], stop))
