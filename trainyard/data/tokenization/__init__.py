"""Text to token ids: the tokenizer's own, by a fast backend where that is verified to give the same.

tokenizer.py finds, loads and trains a tokenizer; text_encoder.py encodes whole texts, placed_encoder.py texts behind
other texts; encoded.py has the arrays that all encoders return. Read text_encoder.py first.
"""
