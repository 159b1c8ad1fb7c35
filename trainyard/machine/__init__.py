"""The computer that we run on: devices, signals, processes, ports.

Nothing here knows of runs or configs, and nothing imports torch. Read `signals` first: a request to save and leave is
what the rest of the project is built around.
"""
