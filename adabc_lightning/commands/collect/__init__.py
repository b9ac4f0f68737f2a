"""Rolls out policies and writes a dataset with a card."""

from adabc_lightning.commands.collect.command import main

__all__ = ["main"]
