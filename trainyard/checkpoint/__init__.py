"""Checkpoints: how they are written, trusted, chosen, converted to other ranks, and loaded.

Read manifest.py first: a directory with a manifest is a checkpoint. A save goes through save.py, writer.py,
pretrained.py and deepspeed_engine.py; a resume through directory.py, layout.py, convert.py and restore.py. The
controller imports directory, manifest and layout, which need no torch.
"""
