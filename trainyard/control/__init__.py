"""One run, from a composed config to an exit code.

Read `controller` first: it checks the request and hands it to the `supervisor`, which prepares the data, launches the
ranks again and again, and holds the run directory to the end. An `attempt` is one launch, followed until nothing of it
is left; `launchers` start its processes, here or over ssh. On further nodes that are launched one by one a `follower`
does what the first node's controller writes down.
"""
