"""Many runs from one command: each point of a sweep is a run of its own, with a controller of its own.

Read sweep.py first: it checks all points, starts them side by side and follows them to the end. The points come from
grid.py (every combination) or search.py (Optuna); pool.py divides the machine among them; results.py keeps the table.
"""
