"""What the columns of a log may be called, one list for all formats.

The names are those of D4RL, Gymnasium, Minari, d3rlpy, RLDS, robomimic and LeRobot. Case does not
count. A name that is not here is not read.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from adabc_lightning.errors import UserError, one_line

VECTORS: Mapping[str, tuple[str, ...]] = {
    "observations": ("observations", "observation", "obs"),
    "actions": ("actions", "action"),
    "next_observations": ("next_observations", "next_observation", "next_obs"),
}
SCALARS: Mapping[str, tuple[str, ...]] = {
    "rewards": ("rewards", "reward", "next.reward"),
    "terminals": (
        *("terminals", "terminal", "terminated", "terminations", "termination"),
        *("is_terminal", "next.terminated"),
    ),
    # Where an episode ended for any reason: where it is a terminal as well, the terminal wins.
    "timeouts": (
        *("timeouts", "timeout", "time_outs", "time_out"),
        *("truncations", "truncation", "truncated", "truncates"),
        *("episode_terminals", "episode_terminal", "is_last", "next.truncated"),
    ),
    "dones": ("dones", "done", "next.done"),
    "success": ("success", "successes", "is_success", "next.success"),
    "later_success": ("later_success",),  # in a step that a conversion has left out
    "episode": (
        *("episode", "episodes", "episode_id", "episode_ids", "episode_index", "episode_idx"),
        *("trajectory", "trajectory_id", "traj_id"),
    ),
    "step": (
        *("step", "steps", "step_id", "step_index", "frame", "frames", "frame_index"),
        *("timestep", "timesteps"),
    ),
    "time": ("time", "times", "timestamp", "timestamps", "t"),
}
_KEYS = {name: key for names in (VECTORS, SCALARS) for key, all_ in names.items() for name in all_}
_STEMS = "|".join(name for names in VECTORS.values() for name in names)
_PART = re.compile(rf"({_STEMS})(?:_(\d{{1,6}})|[./](.+))", re.IGNORECASE)
_END = re.compile(  # some words are of an end only where they are the last: end_effector is none
    r"(^|[._/ -])((not_?)?(dones?|masks?|discounts?|terminal\w*|terminat\w*|truncat\w*"
    r"|time_?outs?|timed_?out|time_limit\w*|success\w*|fail\w*|crash\w*)($|[._/ -])"
    r"|(ends?|last|final|first|resets?)$)",
    re.IGNORECASE,
)
_LISTED = 40  # names in a message
ALIKE = 0.88  # of difflib's ratio: timout is timeout, states are no steps


@dataclass
class Named:
    """Which of a log's names are read.

    Args:
        single: key of :data:`VECTORS` or :data:`SCALARS` → the one name it has.
        numbered: key → names of its numbers, ``observation_0`` and so on, in order.
        parts: key → name of a part (``state`` of ``observation.state``) → the whole name.
    """

    single: dict[str, str] = field(default_factory=dict)
    numbered: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[str, dict[str, str]] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.single or key in self.numbered or key in self.parts


def assign(names: Sequence[str], where: str, kind: str = "arrays") -> Named:
    """Finds out what each name stands for.

    Args:
        names: all there is.
        where: the file, for the message.
        kind: what they are names of, for the message.
    Raises: UserError: two names for one thing, or a number of a vector is missing.
    """
    named, places = Named(), {}  # type: Named, dict[str, dict[int, str]]
    first: dict[tuple[str, object], str] = {}
    kinds: dict[str, tuple[str, str]] = {}
    often = Counter(names)
    for name in names:
        word = name.strip().lower()
        key, match = _KEYS.get(word), _PART.fullmatch(word)
        what: object = None
        if key is not None:
            named.single[key], shape = name, "single"
        elif match is not None:
            key = _KEYS[match[1]]
            if match[2] is not None:
                what, shape = int(match[2]), "numbered"
                places.setdefault(key, {})[int(match[2])] = name
            else:
                what, shape = match[3], "parts"
                named.parts.setdefault(key, {})[match[3]] = name
        else:
            continue
        other = first.setdefault((key, what), name)
        before = kinds.setdefault(key, (shape, name))
        if other != name or before[0] != shape or often[name] > 1:
            pair = other if other != name else before[1]
            raise UserError(
                f"{where} has the {kind} {one_line(pair)} and {one_line(name)}; give one, they are "
                f"two names for the {key}"
            )
    for key, numbers in places.items():
        gap = next((i for i in range(len(numbers)) if i not in numbers), None)
        if gap is not None:
            found = next(numbers[place] for place in sorted(numbers) if place > gap)
            stem = re.sub(r"\d+$", "", found)
            raise UserError(f"{where} has {one_line(found)}, but no {one_line(stem)}{gap}")
        named.numbered[key] = [numbers[place] for place in range(len(numbers))]
    return named


def unread_ends(names: Iterable[str], read: Iterable[str]) -> list[str]:
    """Those of ``names`` that look like ends of episodes and are not in ``read``."""
    known = set(read)
    return [name for name in names if name not in known and _END.search(name.strip())]


def misspelt(names: Iterable[str], read: Iterable[str]) -> list[tuple[str, str]]:
    """Those of ``names`` that are not in ``read``, and the name that they nearly are."""
    known, found = set(read), []
    for name in names:
        word = re.sub(r"_\d{1,6}$", "", name.strip().lower())
        if name not in known and word not in _KEYS:
            close = get_close_matches(word, _KEYS, n=1, cutoff=ALIKE)
            number = name.strip()[len(word) :]
            found += [(name, f"{right}{number}") for right in close]
    return found


def known_ends() -> str:
    """What ends of episodes may be called, for a message."""
    return "; ".join(", ".join(SCALARS[key]) for key in ("terminals", "timeouts", "episode"))


def listed(names: Sequence[str]) -> str:
    """All names on one line; very many are cut off."""
    shown = ", ".join(map(one_line, names[:_LISTED]))
    return (shown + (", …" if len(names) > _LISTED else "")) or "nothing"
