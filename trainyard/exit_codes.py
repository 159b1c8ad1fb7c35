"""What the exit codes mean; see trainyard.controller. Imports nothing, for commands that answer at once."""

FINISHED, FAILED, WRONG, STOPPED = 0, 1, 2, 75
