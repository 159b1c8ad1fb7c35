"""What happens around a step, an evaluation and a line of metrics: one concern a file.

order.py says in which order the callbacks are called, and why. Those that decide are stop, bad_steps and spikes; those
that only tell are speed, progress, generations and deepspeed_record. devices.py reads what speed.py logs.
"""
