"""Reads run directories and writes none: what runs there are, their settings, how they differ, and which is best.

Read history.py first: a Run is one directory, read lazily. choice.py finds the runs that a name means and ranks them,
settings.py tells how they were started. The rest shows them: tables.py in the terminal, watch.py while they go on,
charts.py and page.py as pictures and HTML. sync.py sends what a run has measured to SwanLab afterwards.
"""
