"""One rank of a run: everything between `python -m <stage>.train` and a finished model.

A stage's train.py calls these in order: process (log, signals, last words), process_group, arguments, build, finish.
`build` wires the Trainer and its callbacks, `trainer` is the one subclass of the Hugging Face Trainer, and the plain
objects that it owns lie in evaluate, restoring, callbacks/bad_steps and trainyard.checkpoint.save.
Read pretrain/train.py first, then build.py.
"""
