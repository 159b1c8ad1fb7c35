"""Files to documents, one after another, in bounded memory.

A source is divided into pieces (pieces.py), each of which is read by itself (reader.py, which chooses among lines.py
and rows.py). Read reader.py first.
"""
