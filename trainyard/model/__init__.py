"""A model, ready to train: loaded or built from scratch, with rows for added tokens, with adapters, and counted.

Plain arguments in, a transformers model out; nothing here knows of ranks or runs, but under ZeRO-3 everything works on
partitioned weights. Read build.py first.
"""
