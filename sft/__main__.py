"""python -m sft [overrides]: the controller of a fine-tuning run."""

import sys

from trainyard.controller import main

if __name__ == "__main__":
    sys.exit(main("sft", sys.argv[1:]))
