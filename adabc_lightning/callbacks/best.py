"""Which state of a run ``best.ckpt`` holds."""

from pathlib import Path
from typing import Any

from lightning import Trainer

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks.evaluation import Evaluation
from adabc_lightning.data.trainer import data_of
from adabc_lightning.run.checkpoint_files import BEST, FOLDER
from adabc_lightning.run.ranks import digest
from adabc_lightning.run.saved import Number, Saved, Text, absent
from adabc_lightning.run.trainer import find


class SavedCheckpointing(Saved):
    """See :meth:`Best.state_dict`."""

    best_return: Number | None
    chosen: Text = absent()  # where no trials choose


class Best:
    """The best evaluation so far; with trials, the policy promoted last.

    A higher evaluation alone may be luck.
    """

    def __init__(self) -> None:
        self.best_return: float | None = None
        self._chosen = ""
        """Digest of the policy of ``best.ckpt``, where trials have chosen it."""

    def forget(self) -> None:
        """Forgets it: a new folder does not have the file that was best in another."""
        self.best_return, self._chosen = None, ""

    def improved(self, trainer: Trainer, agent: OffToOnModule) -> bool:
        """Whether the agent as it is was evaluated, and is what ``best.ckpt`` has to hold now."""
        data = data_of(trainer)
        evaluation = find(trainer, Evaluation)
        history = evaluation.history if evaluation else []
        if not history:
            return False
        made = {"gradient_updates": agent.gradient_updates, "env_steps": data.env_steps}
        if not made.items() <= history[-1].items():
            return False
        newest = history[-1]["eval/return"]
        if agent.deployed != "actor":
            before, self._chosen = self._chosen, digest(agent.policy.state_dict())
            self.best_return = newest
            return self._chosen != before
        if self.best_return is None or newest > self.best_return:
            self.best_return = newest
            return True
        return False

    def state_dict(self) -> dict[str, Any]:
        """The best return so far, and what policy trials have chosen, if they have."""
        chosen = {"chosen": self._chosen} if self._chosen else {}
        return {"best_return": self.best_return, **chosen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.best_return = state_dict["best_return"]
        self._chosen = state_dict.get("chosen", "")


def has_best(trainer: Trainer) -> bool:
    """Whether there is a best checkpoint, for any of the ranks."""
    data = data_of(trainer)
    best = Path(trainer.default_root_dir) / FOLDER / BEST
    return any(data.ranks.gather(best.exists()))
