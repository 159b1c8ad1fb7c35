"""What happens around a step, an evaluation and a line of metrics: one concern a file.

Read order.py first: it lists the callbacks in the order in which they are called, with the reasons. Some decide: stop,
bad_steps, spikes. The others only report: speed (which asks devices), generations, progress, deepspeed_record, profile.
moments.py calls a function at moments for which the Trainer has no method to override.
"""
