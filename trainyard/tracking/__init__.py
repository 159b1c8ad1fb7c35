"""Runs in a dashboard. A tracker that fails or hangs never costs the training anything.

tracker.py says what a tracker offers: open, send, show, close. callback.py hands it the lines of metrics, in a thread.
swanlab.py is the only tracker so far, and swanlab_board.py tidies its local dashboard. Read callback.py first.
"""
