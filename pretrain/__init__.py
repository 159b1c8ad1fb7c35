"""Pretraining: the controller's entry (__main__), the worker (train) and the way from text to token ids (encode)."""
