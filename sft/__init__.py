"""Supervised fine-tuning: the controller's entry, the worker, and conversations to ids."""
