"""The paper's experiments: tasks × variants × seeds, runs of ``fit`` that share pre-trainings."""

from adabc_lightning.commands.experiment.command import main

__all__ = ["main"]
