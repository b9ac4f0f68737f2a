"""``doctor``: what works on this machine, how fast it is, and how long a config will take."""

from adabc_lightning.commands.doctor.command import main

__all__ = ["main"]
