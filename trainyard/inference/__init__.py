"""A trained model at work: loaded from a run, a model or an adapter, and asked.

The commands generate, chat and export use it, and the training shows answers to held-out prompts with it. Read
generate.py first; load.py finds a model, prompts.py reads a file of prompts.
"""
