"""One packed float32 row per transition, and the names of its columns.

A batch is one gather from one tensor instead of five;
the named fields are views into it. Row: ``observation | action | reward |
next_observation | terminated | online``, and ``mc_return`` where the method wants it.
"""

from dataclasses import dataclass, field
from functools import cached_property

from tensordict import TensorDict
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where each field of a packed transition row lies.

    Args:
        observation_size: O, length of a flat observation.
        action_size: A, length of an action.
        extra: further columns, a number each.
    """

    observation_size: int
    action_size: int
    extra: tuple[str, ...] = field(default=(), repr=False)  # a fingerprint is of the others

    @property
    def width(self) -> int:
        """Columns of a row: 2·O + A + 3, and the extra."""
        return 2 * self.observation_size + self.action_size + 3 + len(self.extra)

    @cached_property
    def columns(self) -> dict[str, slice | int]:
        """Field name → its column (scalars) or slice of columns (vectors)."""
        o, a = self.observation_size, self.action_size
        behind = 2 * o + a + 3
        return {
            "observation": slice(0, o),
            "action": slice(o, o + a),
            "reward": o + a,
            "next_observation": slice(o + a + 1, 2 * o + a + 1),
            "terminated": 2 * o + a + 1,
            "online": 2 * o + a + 2,
            **{name: behind + index for index, name in enumerate(self.extra)},
        }

    def unpack(self, rows: Tensor) -> TensorDict:
        """Named views of packed rows, no copy.

        Args:
            rows: ``[..., width]`` float32.
        Returns: TensorDict of batch size ``[...]`` with ``observation [..., O]``, ``action
            [..., A]``, ``reward``, ``next_observation [..., O]``, ``terminated`` (1.0 for a
            true terminal, never for a time limit) and ``online`` (1.0 for rows collected
            during fine-tuning) and the extra, scalars as ``[...]``.
        """
        fields = {name: rows[..., column] for name, column in self.columns.items()}
        return TensorDict(fields, batch_size=rows.shape[:-1])
