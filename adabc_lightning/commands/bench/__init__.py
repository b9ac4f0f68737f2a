"""How fast this machine is: updates, whole loops, loading, start-up."""

from adabc_lightning.commands.bench.command import main

__all__ = ["main"]
