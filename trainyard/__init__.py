"""Pretrain and fine-tune language models with the Hugging Face Trainer under DeepSpeed.

docs/architecture.md says what the packages are for and which way imports point. This module tells where files lie, in a
checkout and in an installed wheel alike.
"""

from trainyard import start

start.settle_program()  # before any import that may find a file of the user

from pathlib import Path  # noqa: E402

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parent.parent
"""The folder that Python must search to find trainyard and the stages: the checkout, or site-packages."""

_IN_WHEEL = Path(__file__).resolve().parent / "_shipped"

SHIPPED = _IN_WHEEL if _IN_WHEEL.is_dir() else ROOT
"""The folder of conf/, ds_configs/ and launch/: the checkout, or their copy in a wheel (see pyproject.toml)."""

INSTALLED = SHIPPED != ROOT
"""Does this package come from a wheel? Then users start stages by `trainyard <stage>`, not by scripts of a checkout."""

COMMAND = "trainyard" if INSTALLED else "python -m trainyard"
"""How users start a verb, in commands that are printed."""
