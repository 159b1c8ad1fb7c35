"""The commands that a user types, a file per verb: `trainyard VERB`, or `python -m trainyard VERB`.

Read verbs.py first: the table of verbs. train.py is the command of the stages (`trainyard pretrain`, or
launch/pretrain.sh). Every other file is the verb of its name, with `add_options(parser)` and `run(arguments)`, which
returns the exit code. A verb imports torch only once its request is known to be good: mistakes are answered at once.
"""
