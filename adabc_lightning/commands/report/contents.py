"""What a report takes the files of a run for; whatever it reads of them is checked here, once.

Runs come from anywhere. One whose files hold something else is left out with a sentence, and the
others are reported. Imports no PyTorch, as the page of a fit.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adabc_lightning.commands.results import SCORES
from adabc_lightning.errors import UserError
from adabc_lightning.run.nested import at

LARGEST = 1e100  # far beyond float32; the squares of a few are still numbers
_LARGEST_COUNT = 2**53
_LONGEST_NAME = 1000
_MISSING = object()


class Kind(NamedTuple):
    """Which values are right, how a sentence calls them, and whether null must stand there."""

    right: Callable[[Any], bool]
    wanted: str
    needed: bool = False


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_COUNT


def _is_number(value: Any) -> bool:
    right = isinstance(value, int | float) and not isinstance(value, bool)
    return right and abs(value) < LARGEST  # not so of NaN


def _are_callbacks(value: Any) -> bool:
    """As Lightning's command line writes them: one is a mapping, several are a list."""
    found = [value] if isinstance(value, dict) else value
    return isinstance(found, list) and all(
        isinstance(each.get("init_args"), dict | None) for each in found if isinstance(each, dict)
    )


def _or_none(kind: Kind, needed: bool = False) -> Kind:
    """Which may also be missing, unless a null is needed."""
    return Kind(lambda value: value is None or kind.right(value), f"{kind.wanted} or null", needed)


FLAG = Kind(lambda value: isinstance(value, bool), "true or false")
TEXT = Kind(lambda value: isinstance(value, str), "a text")
TEXTS = Kind(
    lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    "a list of texts",
)
NAME = Kind(
    lambda value: isinstance(value, str) and len(value) <= _LONGEST_NAME,
    f"a text of at most {_LONGEST_NAME:,} letters",
)
COUNT = Kind(_is_count, "a whole number, 0 or more and below 2⁵³")
NUMBER = Kind(_is_number, f"a number between ±{LARGEST:g}")
MAPPING = Kind(lambda value: isinstance(value, dict), "a mapping")
CALLBACKS = Kind(_are_callbacks, "a list of classes and their init_args")

SUMMARY = {
    "finished": FLAG,
    "env_id": NAME,
    "dataset": _or_none(TEXT, needed=True),
    "seed": COUNT,
    "score": MAPPING,
    "return": MAPPING,
    "env_steps": COUNT,
    **{f"{unit}/{name}": _or_none(NUMBER) for unit in ("score", "return") for name in SCORES},
    "dataset_fingerprint": _or_none(TEXT),
    "revisions": TEXTS,
    "versions": _or_none(MAPPING),
    "versions/source": _or_none(TEXT),
    "trials/env_steps": _or_none(COUNT),
}
CONFIG = {
    "data": MAPPING,
    "data.reference_min": _or_none(NUMBER),
    "data.reference_max": _or_none(NUMBER),
    "data.max_episode_steps": _or_none(COUNT),
    "alpha": MAPPING,
    "alpha.ceiling": NUMBER,
    "alpha.initial": _or_none(NUMBER),
    "ckpt_path": _or_none(TEXT),
    "trainer": _or_none(MAPPING),
    "trainer.callbacks": _or_none(CALLBACKS),
}
RECORD = {name: _or_none(NAME) for name in ("experiment", "task", "variant")}


def check(path: Path, content: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Whether a file holds what a report reads of it; the rest is nobody's business.

    Args:
        path: the file.
        content: what was read.
        kinds: of the entries, by their paths.
    Raises: UserError: the first that is missing or of another kind.
    """
    for name, kind in kinds.items():
        value = at(content, name.replace("/", "."), _MISSING)
        known = value is not _MISSING
        value = value if known else None
        if not kind.right(value) or (kind.needed and not known):
            wrong = f"{name} is {_shown(value)}; it must be {kind.wanted}"
            raise UserError(f"{path} is damaged: {wrong if known else f'it has no {name!r}'}")


def _shown(value: Any) -> str:
    """In a few words, whatever it is."""
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    return "null" if value is None else f"{value!r:.40}"


def check_metrics(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Whether every evaluation of ``metrics.csv`` is a number at a known place.

    Args:
        path: the file.
        columns: ``[rows]`` each, NaN where one is empty.
    Raises: UserError: a number is none, or counters of an evaluation are missing.
    """
    evaluated = ~np.isnan(columns.get("eval/return", np.zeros(0)))
    for name in ("gradient_updates", "env_steps", "eval/return", "eval/score"):
        values, count = columns.get(name, np.zeros(0)), not name.startswith("eval/")
        wrong = (values < 0) | (values >= _LARGEST_COUNT) if count else abs(values) >= LARGEST
        if count and len(values) == len(evaluated):
            wrong |= evaluated & np.isnan(values)
        if wrong.any():
            row = int(wrong.argmax())
            said = "missing" if np.isnan(values[row]) else f"{values[row]:g}"
            wanted = COUNT.wanted if count else NUMBER.wanted
            raise UserError(
                f"{path} is damaged: {name} is {said} in row {row + 1}; it must be {wanted}"
            )
