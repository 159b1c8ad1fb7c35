"""A run's directory, and everything that is said through it.

The controller and the ranks never import each other: they meet in the files named here. Read `directory` first (what
lies where), then `messages` (what the two sides say) and `rank` (a rank's side of it). `status` is the controller's
view of the run, and `metrics` is the log of the training.
"""
