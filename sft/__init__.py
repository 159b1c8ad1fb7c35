"""Fine-tuning on conversations: `__main__` is the command, `train` one rank, `encode` the way to ids and loss masks.

Read train.py first: it builds a run from top to bottom.
"""

import trainyard  # noqa: F401 - `python -m sft` finds no file of the working directory from here on
