"""Sequences of a plan to tensors, the only part of `data` that imports torch.

dataset.py reads a sequence, collator.py makes a micro batch of several, and loader.py says which rank gets which
sequences, from any step on. Read dataset.py first.
"""
