"""Pretraining on plain text: `__main__` is the command, `train` one rank, `encode` the way from documents to token ids.

Read train.py first: it builds a run from top to bottom.
"""

import trainyard  # noqa: F401 - `python -m pretrain` finds no file of the working directory from here on
