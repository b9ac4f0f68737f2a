"""A dataset in memory: packed transition rows, and what is known of the episodes they come from."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from adabc_lightning.data.formats.source import LOGGED
from adabc_lightning.data.origins import Origin
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.observations import Parts
from adabc_lightning.env.scores import Reference

TOLERANCE = 1e-3  # standard deviations by which the same observation may differ in two columns


@dataclass(frozen=True)
class OfflineDataset:
    """Every usable transition of a dataset, and what its episodes earned.

    Args:
        name: what the user asked for.
        layout: columns of ``rows``.
        rows: ``[T, layout.width]`` float32, in the order they were taken; ``online`` is 0.
        episode_T: ``[T]`` int64, each row's index into the per-episode tensors.
        episode_return_E: ``[E]`` float64, undiscounted raw return as logged: rows dropped
            for lack of a next state count.
        episode_length_E: ``[E]`` int64, environment steps as logged.
        terminals: episodes ended by a true terminal.
        timeouts: episodes ended by a time limit.
        reference: the dataset's own score references, None where it has none.
        env_id: the environment that the dataset says it was logged in, None where it does not.
        unresolved: columns whose changes float32 does not hold (Unix times), by name.
        unread: names in the log that nothing was read from.
        cut_every: the time limit, in steps, where nothing but it and terminals ends episodes; None
            where the log says more.
        joins: whether nothing but terminals ends episodes, so that one which was cut off goes on in
            the next.
        success_E: ``[E]`` bool, whether a step of the episode is flagged as success, be it one that
            was dropped; None where the log has no such flags.
        success_T: ``[T]`` bool, whether the row is; None with ``success_E``.
        observation_parts: name and size of each part of the observations, in order; None where
            the log has none.
        sources: of several datasets, what each one is called and holds, in their order.
        reward: where the rewards come from, as ``data.reward`` says it.
    """

    name: str
    layout: Layout
    rows: Tensor
    episode_T: Tensor
    episode_return_E: Tensor
    episode_length_E: Tensor
    terminals: int
    timeouts: int
    reference: Reference | None
    env_id: str | None = None
    unresolved: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    cut_every: int | None = None
    joins: bool = False
    success_E: Tensor | None = None
    success_T: Tensor | None = None
    sources: tuple[Origin, ...] = ()
    reward: str = LOGGED
    observation_parts: Parts | None = None

    @property
    def terminal_T(self) -> np.ndarray:
        """Which rows end in a true terminal, ``[T]`` bool, a new array."""
        return np.asarray(self.rows[:, self.layout.columns["terminated"]].cpu().numpy() > 0)

    def fingerprint(self) -> str:
        """SHA-256 of the shapes and some 1,000 evenly spaced rows: is it still the same data?

        Not of a method's own columns, which are made anew.
        """
        rows = self.rows[:, : replace(self.layout, extras=()).width]
        digest = hashlib.sha256(repr((tuple(rows.shape), self.layout)).encode())
        digest.update(rows[:: max(1, len(rows) // 1000)].cpu().numpy().tobytes())
        digest.update(self.episode_length_E.numpy().tobytes())
        return digest.hexdigest()

    def torn(self) -> np.ndarray:
        """Rows whose next observation is not the next row's observation, ``[T − 1]`` bool.

        Up to what logs round: 0.001 of an observation's standard deviation, and a millionth of its
        unit. That is of rows as they were logged: once they are normalised, a column that hardly
        varies would have rounding errors for gaps.
        """
        columns, rows = self.layout.columns, self.rows.cpu().numpy()
        observation_TO = rows[:, columns["observation"]]
        next_observation_TO = rows[:, columns["next_observation"]]
        with np.errstate(over="ignore", invalid="ignore"):
            std_O = observation_TO.std(0)
            if not np.isfinite(std_O).all():  # squares, or the sum, that float32 does not hold
                std_O = observation_TO.std(0, dtype=np.float64)
            tolerance_O = TOLERANCE * std_O + 1e-6
            apart_TO = np.abs(next_observation_TO[:-1] - observation_TO[1:]) > tolerance_O
        return np.asarray(apart_TO.any(1))

    def as_d4rl(self) -> dict[str, np.ndarray]:
        """The rows in D4RL's v2 layout; the last kept one of an episode without end is a timeout.

        Returns: ``observations [T, O]``, ``actions [T, A]``, ``rewards [T]``,
            ``next_observations [T, O]``, ``terminals [T]``, ``timeouts [T]``; where the log has
            flags of success also ``success [T]``, and ``later_success [T]``, flagged in the last
            row of episodes that succeeded in a step that is not here.
        """
        rows, column = self.rows.numpy(), self.layout.columns
        terminal_T = self.terminal_T
        ends_T = np.append(np.diff(self.episode_T.numpy()) != 0, True)
        succeeded = {}
        if self.success_E is not None and self.success_T is not None:
            succeeded = {"success": self.success_T.numpy()}
            later_E = self.success_E.clone()
            later_E[self.episode_T[self.success_T]] = False
            if later_E.any():
                succeeded["later_success"] = ends_T & later_E[self.episode_T].numpy()
        return {
            "observations": rows[:, column["observation"]],
            "actions": rows[:, column["action"]],
            "rewards": rows[:, column["reward"]],
            "next_observations": rows[:, column["next_observation"]],
            "terminals": terminal_T,
            "timeouts": ends_T & ~terminal_T,
            **succeeded,
        }
