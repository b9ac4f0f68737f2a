"""One packed float32 row per transition, and the names of its columns.

A batch is one gather from one tensor instead of five;
the named fields are views into it. Row: ``observation | action | reward |
next_observation | terminated | online``, and behind them what a method needs beside these.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where each field of a packed transition row lies.

    Args:
        observation_size: O, length of a flat observation.
        action_size: A, length of an action.
        extras: further fields, what a method needs beside those that all have: ``next_action``,
            or others of a number each.
    """

    observation_size: int
    action_size: int
    extras: tuple[str, ...] = field(default=(), repr=False)  # a fingerprint is of the others

    @cached_property
    def width(self) -> int:
        """Columns of a row: 2·O + A + 3, and the extras."""
        return self._common + sum(map(self._size, self.extras))

    @property
    def _common(self) -> int:
        return 2 * self.observation_size + self.action_size + 3

    def _size(self, extra: str) -> int:
        return self.action_size + 1 if extra == "next_action" else 1

    @cached_property
    def columns(self) -> dict[str, slice | int]:
        """Field name → its column (scalars) or slice of columns (vectors)."""
        o, a = self.observation_size, self.action_size
        columns: dict[str, slice | int] = {
            "observation": slice(0, o),
            "action": slice(o, o + a),
            "reward": o + a,
            "next_observation": slice(o + a + 1, 2 * o + a + 1),
            "terminated": 2 * o + a + 1,
            "online": 2 * o + a + 2,
        }
        behind = self._common
        for name in self.extras:
            if name == "next_action":
                columns |= {name: slice(behind, behind + a), "next_action_known": behind + a}
            else:
                columns[name] = behind
            behind += self._size(name)
        return columns

    def pack(
        self,
        observation: np.ndarray,
        action: np.ndarray,
        reward: float,
        next_observation: np.ndarray,
        terminated: bool,
    ) -> Tensor:
        """A step of the environment as a row ``[width]``, ``online`` set; extras are 0.

        Args:
            observation, next_observation: ``[O]``.
            action: ``[A]``.
            reward: raw.
            terminated: by a true terminal, never by a time limit.
        """
        row, columns = np.zeros(self.width, np.float32), self.columns
        row[columns["observation"]] = observation
        row[columns["action"]] = action
        row[columns["reward"]] = reward
        row[columns["next_observation"]] = next_observation
        row[columns["terminated"]] = terminated
        row[columns["online"]] = 1.0
        return torch.from_numpy(row)

    def unpack(self, rows: Tensor, index: Tensor | None = None) -> TensorDict:
        """Named views of packed rows, no copy.

        Args:
            rows: ``[..., width]`` float32.
            index: ``[...]``, where they lie; None where nobody asks.
        Returns: TensorDict of batch size ``[...]`` with ``observation [..., O]``, ``action
            [..., A]``, ``reward``, ``next_observation [..., O]``, ``terminated`` (1.0 for a
            true terminal, never for a time limit) and ``online`` (1.0 for rows collected
            during fine-tuning), scalars as ``[...]``; with ``next_action`` in ``extras``
            ``next_action [..., A]``, the action that followed, and ``next_action_known`` (0.0 where
            none is known: at the end of an episode, and until it has been taken); and ``index``,
            if it was given.
        """
        fields = {name: rows[..., column] for name, column in self.columns.items()}
        if index is not None:
            fields["index"] = index
        return TensorDict(fields, batch_size=rows.shape[:-1])
