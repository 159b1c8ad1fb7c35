"""python -m pretrain [overrides]: the controller of a pretraining run."""

import sys

from trainyard.controller import main

if __name__ == "__main__":
    sys.exit(main("pretrain", sys.argv[1:]))
