"""The ways to start a run's ranks.

Read `launch` first: it says what each of them returns. `local` starts DeepSpeed's launcher on this machine. `ssh`
starts it on the nodes of a `hostfile`: there `node` takes the controller's place, and a `node_request` tells it what to
start.
"""
