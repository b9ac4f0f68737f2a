"""Table and learning curves of runs; benchmarks that differ are never mixed."""

from adabc_lightning.commands.report.command import main

__all__ = ["main"]
