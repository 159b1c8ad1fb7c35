"""Pretrain and fine-tune language models with the Hugging Face Trainer under DeepSpeed."""

from pathlib import Path

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: conf/, ds_configs/ and launch/ lie here."""
