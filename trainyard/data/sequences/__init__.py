"""Training sequences as index arrays over a token store; no module here changes a token.

plans.py chooses the documents (mixture.py), shortens conversations (truncation.py) and packs them (packing.py).
order.py is the order in which sequences are trained on; show.py prints sequences. Read plans.py first.
"""
