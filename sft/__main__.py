"""python -m sft [overrides]: the controller of a fine-tuning run."""

import sys

from trainyard.machine.signals import StopSignals

if __name__ == "__main__":
    with StopSignals() as stop:  # before the other imports, so that no signal is lost
        from trainyard.commands.train import main

        sys.exit(main("sft", sys.argv[1:], stop))
