"""What can be asked for, from overrides on a command line to a typed Config and back to a file.

Read schema.py first: it has every setting. compose.py turns overrides into a Config with Hydra; saved.py writes the
Config of a run to its config.yaml and reads it there, which is all that a rank needs. stages.py says how stages differ.
"""
