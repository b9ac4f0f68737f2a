"""Observations that have parts: Gymnasium's Dict spaces, groups of arrays, a robot's sensors.

One rule wherever parts become one vector, in environments, logs, robots and policies. A part is
called by its key, ``a.b`` where ``b`` lies in ``a``. All parts are taken, sorted by name whatever
the case (as Gymnasium sorts what a Dict space is made of), or those of ``data.observation_keys``,
in that order. Nothing here imports PyTorch or Gymnasium.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from adabc_lightning.errors import UserError, key_of, nearest, one_line

Parts = tuple[tuple[str, int], ...]
"""Name and size of each part, in order; the sizes add up to O."""


class Misfit(ValueError):
    """An observation that is not of the parts that it should be; the message begins with a verb."""


def choose(
    flat: Collection[str],
    known: Collection[str],
    wanted: Sequence[str] | None,
    where: str,
    what: str = "observations",
) -> list[str]:
    """Which parts make an observation, in order.

    Args:
        flat: names of the parts that can: numbers along one dimension.
        known: names of all parts.
        wanted: ``data.observation_keys``; None for all of ``flat``.
        where: what has the parts, for the message.
        what: they are parts of, for the message.
    Raises: UserError: one that is wanted is not there or not flat, or there is none.
    """
    if wanted is None:
        if not flat:
            listed = ", ".join(map(one_line, sorted(known))) or "nothing"
            raise UserError(f"{where}: no part of the {what} is flat; they have: {listed}")
        return sorted(flat, key=lambda name: (name.lower(), name))
    by_lower_case = {name.lower(): name for name in known}
    found = []
    for word in wanted:
        name = word if word in known else by_lower_case.get(word.lower())
        if name is None:
            hint = nearest(word, sorted(map(one_line, known)))
            raise UserError(
                f"{where}: {word!r} of {key_of('observation_keys')} is not there; {hint}"
            )
        if name not in flat:
            others = ", ".join(map(one_line, sorted(flat))) or "none"
            raise UserError(
                f"{where}: {word!r} of {key_of('observation_keys')} is no array of one dimension; "
                f"those that are: {others}"
            )
        found.append(name)
    return found


def flatten(observation: Any, parts: Parts) -> np.ndarray:
    """The parts side by side.

    Args:
        observation: a mapping, nested or with dots in its names, from each part to ``[N]`` or
            ``[B, N]`` (a part of one number may lack that dimension); more than the parts is
            allowed. A constant part may be one beside a batch of the others.
        parts: which, in order.
    Returns: ``[O]`` or ``[B, O]``, of the type that holds all of them.
    Raises: Misfit: a part is missing, or no numbers, or of another size.
    """
    arrays = [_numbers(_found(observation, name, name), name, size) for name, size in parts]
    try:
        return np.concatenate(arrays, axis=-1)
    except ValueError:
        try:
            batch = np.broadcast_shapes(*(array.shape[:-1] for array in arrays))
        except ValueError:
            shapes = ", ".join(f"{n} {list(a.shape)}" for (n, _), a in zip(parts, arrays))  # noqa: B905
            raise Misfit(f"gave parts of different batches: {shapes}") from None
        return np.concatenate(
            [np.broadcast_to(array, (*batch, array.shape[-1])) for array in arrays], axis=-1
        )


def _found(observation: Any, name: str, whole: str) -> Any:
    if isinstance(observation, Mapping):
        if name in observation:
            return observation[name]
        for place, letter in enumerate(name):
            if letter == "." and name[:place] in observation:
                return _found(observation[name[:place]], name[place + 1 :], whole)
    raise Misfit(f"gave an observation without {whole!r}")


def _numbers(value: Any, name: str, size: int) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise Misfit(f"gave {name!r} of an observation as {type(value).__name__}, not numbers")
    if array.shape[-1:] == (size,):
        return array
    if size == 1:
        return array[..., None]
    raise Misfit(f"gave {name!r} of an observation in the shape {list(array.shape)}, not [{size}]")


def as_numbers(observation: Any, size: int, batches: bool = True) -> np.ndarray:
    """What a policy may act on: NaN would pass through every layer, and through the bounds.

    Args:
        observation: whatever makes an array ``[O]`` or ``[B, O]``.
        size: O.
        batches: whether there may be several.
    Returns: the same in float32.
    Raises: UserError: another shape, or no finite numbers in float32.
    """
    try:
        x = np.asarray(observation, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"the policy takes arrays of numbers: {one_line(str(error))}") from error
    if x.ndim not in ((1, 2) if batches else (1,)) or x.shape[-1] != size:
        wanted = f"({size},) or (B, {size})" if batches else f"({size},)"
        raise UserError(f"the policy takes observations of shape {wanted}, this one has {x.shape}")
    if not np.isfinite(x).all():
        where = np.argwhere(~np.isfinite(x))[0].tolist()
        raise UserError(f"observation{where} is {x[tuple(where)]}; the policy takes numbers")
    return x


def column_names(parts: Parts) -> list[str]:
    """A name for each number of an observation, ``observation.achieved_goal[0]`` and so on."""
    return [f"observation.{name}[{i}]" for name, size in parts for i in range(size)]


def labelled(column: str, parts: Parts | None) -> str:
    """What a column is called in a sentence.

    Args:
        column: ``observation_3`` or ``action_0``.
        parts: of the observations; None where they have none.
    """
    field, _, index = column.rpartition("_")
    return column_names(parts)[int(index)] if parts and field == "observation" else column


def described(parts: Parts) -> str:
    """``achieved_goal (3), observation (10)``, for messages."""
    return ", ".join(f"{one_line(name)} ({size})" for name, size in parts)


def agree(some: Parts, others: Parts) -> bool:
    """Whether two lists of parts mean the same numbers; where each is one part, by its size."""
    if len(some) == len(others) == 1:
        return some[0][1] == others[0][1]
    return [(n.lower(), s) for n, s in some] == [(n.lower(), s) for n, s in others]


def is_parts(value: Any) -> bool:
    """Whether a file's content can be :data:`Parts`: pairs of a text and a size, all different."""
    pairs = isinstance(value, (list, tuple)) and all(
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and isinstance(pair[0], str)
        and type(pair[1]) is int
        and 1 <= pair[1] < 2**31
        for pair in value
    )
    return pairs and 0 < len(value) == len({name for name, _ in value})


def as_parts(value: Any) -> Parts | None:
    """What :func:`is_parts` has checked, as tuples; None stays None."""
    return None if value is None else tuple((name, size) for name, size in value)
