"""One rank of a run: everything between `python -m <stage>.train` and a finished model.

Read pretrain/train.py first: it calls these files in this order. process (log, signals, last words), process_group,
arguments, model, build, finish. Then read build.py, which wires the Trainer and its callbacks. `trainer` is the one
subclass of the Hugging Face Trainer; the plain objects that it owns lie in evaluate, restoring, callbacks/bad_steps and
trainyard.checkpoint.save.
"""
