"""A request completed, and proved as far as possible before anything is started.

Read request.py first: it calls every check and reports all mistakes together. resolve.py comes before it and fills in
what follows from other settings and from the machine; resume.py asks whether a run may go on with what it has.
"""
