"""Writes a policy as a file that runs without this package, with a card."""

from adabc_lightning.commands.export.command import main

__all__ = ["main"]
