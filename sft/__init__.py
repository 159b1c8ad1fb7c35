"""Fine-tuning on conversations: `__main__` is the command, `train` one rank, `encode` conversations to ids and loss mask.

Read train.py first: it builds a run from top to bottom.
"""
