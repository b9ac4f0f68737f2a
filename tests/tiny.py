"""A whole run at a size that takes seconds: toy environment, random log, small networks."""

from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from lightning import Callback, Trainer

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.callbacks import (
    AlphaController,
    Checkpointing,
    Downsampling,
    Evaluation,
    Guard,
    HandoverDiagnostics,
    Metrics,
    Summary,
)
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.env.make import make_env
from adabc_lightning.run.checkpoint_io import AtomicCheckpointIO
from adabc_lightning.run.schedule import Schedule

TOY_LIMIT = 5


class Toy(gymnasium.Env):
    """A point on a line: three observations, two actions of different range, no terminal."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = gymnasium.spaces.Box(
            np.array([-1, -3], np.float32), np.array([1, 3], np.float32)
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.position = self.np_random.standard_normal(3)
        return self.position.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.position = self.position + 0.1 * action.sum()
        return self.position.copy(), float(1 - self.position[0] ** 2), False, False, {}


def register_toy() -> str:
    """Registers the toy once and returns its id."""
    name = "AdabcToy-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, Toy, max_episode_steps=TOY_LIMIT)
    return name


def write_log(
    path: Path, observation_size: int, action_size: int, rows: int = 120, linked: bool = False
) -> Path:
    """A random D4RL v2-style log with episodes of 20 steps.

    ``linked``: whether a next observation is the observation of the row behind.
    """
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        observations = rng.standard_normal((rows, observation_size), dtype=np.float32)
        others = rng.standard_normal((rows, observation_size), dtype=np.float32)
        if linked:
            inside = np.arange(1, rows) % 20 != 0
            others[:-1][inside] = observations[1:][inside]
        file["observations"], file["next_observations"] = observations, others
        file["actions"] = rng.uniform(-1, 1, (rows, action_size)).astype(np.float32)
        file["rewards"] = rng.standard_normal(rows, dtype=np.float32)
        file["terminals"] = np.arange(1, rows + 1) % 40 == 0
        file["timeouts"] = np.arange(1, rows + 1) % 40 == 20
    return path


def told(text: str) -> list[str]:
    """The lines of a text but for those about the log: its rows do not follow each other."""
    return [line for line in text.splitlines() if not line.startswith("warning: dataset ")]


def shapes(env_id: str) -> tuple[int, int]:
    """Observation and action size of an environment; skips the test if it is not installed."""
    if env_id.startswith("AdroitHand"):
        pytest.importorskip("gymnasium_robotics")
    env = make_env(env_id)
    spec = EnvironmentSpec.of(env, env_id)
    env.close()
    return spec.observation_size, spec.action_size


def tiny_run(
    folder: Path,
    env_id: str,
    log: Path | None,
    *,
    schedule: Schedule,
    callbacks: list[Callback] | None = None,
    seed: int = 0,
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    downsampling: dict[str, Any] | None = None,
    alpha: dict[str, Any] | None = None,
    diagnostics: bool = True,
    accelerator: str = "cpu",
) -> tuple[Trainer, OffToOnModule, ReplayDataModule]:
    """Trainer, module and data module of one tiny run, not yet fitted."""
    datamodule = ReplayDataModule(
        env_id,
        None if log is None else str(log),
        schedule,
        seed=seed,
        reference_min=0.0,
        reference_max=10.0,
        **{"batch_size": 8, "replay_capacity": 150} | (data or {}),
    )
    small = {"num_critics": 3, "hidden_sizes": (8, 8)} | (model or {})
    module = OffToOnModule(datamodule.spec, seed=seed, **small)  # type: ignore[arg-type]
    trainer = Trainer(
        max_epochs=1,
        accelerator=accelerator,
        devices=1,
        logger=False,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            Downsampling(**{"keep": 0.5, "minimum": 10} | (downsampling or {})),
            AlphaController(**{"kp": 1e-3, "kd": 1e-2} | (alpha or {})),
            Guard(),
            Evaluation(episodes=2),
            *([HandoverDiagnostics(rows=20)] if diagnostics else []),
            Metrics(every=3),
            Summary(),
            *(callbacks or []),
            Checkpointing(),
        ],
    )
    return trainer, module, datamodule
