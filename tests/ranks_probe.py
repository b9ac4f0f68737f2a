"""Parts for runs on several devices: what each rank holds at the end; an arm that gets stuck."""

import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from lightning import Callback


class Probe(Callback):
    """Writes weights, targets, both Adams and α of each rank into the run's folder at the end."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        state = {
            "weights": pl_module.state_dict(),
            "adams": [optimizer.state_dict()["state"] for optimizer in trainer.optimizers],
            "rows": trainer.datamodule.replay.rows,
            "threads": type(trainer.strategy.model).__name__,
        }
        torch.save(state, Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.pt")


class Stuck(gymnasium.Env):
    """Four numbers that stay; in the second process the third step of the fifth episode raises."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(4), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        if os.environ.get("LOCAL_RANK") == "1" and self.steps == 23:
            raise ValueError("the arm is stuck")
        return np.zeros(4), 1.0, self.steps % 5 == 0, False, {}


gymnasium.register("Stuck-v0", Stuck, max_episode_steps=5)
