"""The ways to start a run's ranks.

`launch` says what every one gives back; `local` starts DeepSpeed's launcher on this machine; `ssh` starts it on the
nodes of a `hostfile`, where `node` stands in for the controller.
"""
