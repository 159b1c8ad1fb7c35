"""Sources to a published token store with its plans, once, by any number of processes, resumed after a kill.

prepare.py has the steps in order: the tokenizer (chosen_tokenizer.py), the fingerprint, the parts (division.py,
parts.py, part_writer.py), the store (publish.py), the plans. Read prepare.py first.
"""
