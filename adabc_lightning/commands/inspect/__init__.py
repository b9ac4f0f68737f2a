"""Checks a dataset and says what is in it: the data card."""

from adabc_lightning.commands.inspect.command import main

__all__ = ["main"]
