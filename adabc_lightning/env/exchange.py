"""A folder through which an acting and a training process exchange episodes and policies.

``space.json`` says what observations and actions are like, ``episodes/000000000.npz`` and so on are
the actor's episodes in order, ``policy/newest.npz`` is the trainer's newest policy. Each file is
there whole or not at all. Nothing here imports PyTorch.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adabc_lightning.agent.bounds import bounded, inward
from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.env.observations import Parts, as_parts, described, flatten, is_parts
from adabc_lightning.errors import UserError, key_of, reason
from adabc_lightning.run.atomic import replace_text, replacing

PREFIX = "log:"
"""What a ``data.env_id`` starts with that is a folder: ``log:FOLDER``."""
FAR = 1e-3  # of the range: so far outside of it is an action in other units
ROUNDING = 1e-6  # of a number: where the range is narrower, or none, no more than float32 rounds


@dataclass(frozen=True)
class Space:
    """What observations and actions are like.

    Args:
        observation_size: O.
        action_low, action_high: bounds of the actions ``[A]``, action units.
        max_episode_steps: time limit in steps, None for none.
        observation_parts: name and size of each part of the observation, in order; None where it
            has none.
    """

    observation_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    max_episode_steps: int | None = None
    observation_parts: Parts | None = None


class LoggedEpisode(NamedTuple):
    """What happened from a reset until a terminal, or until it was cut off."""

    observations: np.ndarray
    """``[T + 1, O]`` float32, the last one included."""
    actions: np.ndarray
    """``[T, A]`` float32, as they were carried out."""
    rewards: np.ndarray
    """``[T]`` float32."""
    terminated: bool
    """Whether the last observation is a true terminal; a time limit is none."""


class Publication(NamedTuple):
    """A policy and what it has learnt from."""

    policy: StoredPolicy
    """Weights, and σ of the exploration noise in action limits or the layer that gives it."""
    episodes: int
    """How many episodes it has learnt from."""
    env_steps: int
    """Steps of them."""
    gradient_updates: int
    """Updates, pre-training included."""
    finished: bool
    """Whether it is the last one."""


class Exchange:
    """The folder's files.

    Args:
        folder: where they are; nothing is made yet.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.episodes_folder, self.policy_folder = self.folder / "episodes", self.folder / "policy"

    def space(self) -> Space:
        """What the acting process said of its observations and actions.

        Raises: UserError: it has not yet, or the file is damaged.
        """
        path = self.folder / "space.json"
        if not path.is_file():
            raise UserError(
                f"{path} is not there; start the process that acts first (adabc_lightning.Robot "
                f"writes it), or give its folder as {key_of('env_id')} log:FOLDER"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            size, limit = content["observation_size"], content["max_episode_steps"]
            low, high = (tuple(map(float, content[f"action_{end}"])) for end in ("low", "high"))
            parts = content.get("observation_parts")
            if parts is not None and not is_parts(parts):
                raise ValueError("no parts")
            limit = None if limit is None else int(limit)
            space = Space(int(size), low, high, limit, as_parts(parts))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged; remove it, Robot writes it again") from error
        check_space(space, str(path))
        return space

    def write_space(self, space: Space) -> None:
        """Says it, once and for all.

        Raises: UserError: something else has been said before, or the folder cannot be written.
        """
        check_space(space, "the space")
        if (self.folder / "space.json").is_file():
            if (before := self.space()) != space:
                raise UserError(f"{self.folder} is of another task ({before}); choose a new folder")
            return
        content = asdict(space)
        if space.observation_parts is None:  # the file is older than they are
            del content["observation_parts"]
        replace_text(self.folder / "space.json", json.dumps(content, indent=2) + "\n")

    def episode_path(self, index: int) -> Path:
        """Where an episode is, once it is there."""
        return self.episodes_folder / f"{index:09d}.npz"

    def episode_count(self) -> int:
        """How many there are, up to the first that is missing."""
        return next(index for index in count() if not self.episode_path(index).exists())

    def check_whole(self) -> None:
        """Raises: UserError: an episode is missing, and later ones are there."""
        next_one = self.episode_path(self.episode_count())
        names = f"{'[0-9]' * 9}.npz"
        later = [path for path in self.episodes_folder.glob(names) if path.name > next_one.name]
        if later:
            raise UserError(
                f"{next_one} is missing, and {len(later)} later ones are there; put it back, or "
                "choose a new folder"
            )

    def write_episode(self, index: int, episode: LoggedEpisode, space: Space) -> None:
        """Adds one; the same one once more is the same as once.

        Raises: UserError: another is there, or it cannot be written.
        """
        if self.episode_path(index).exists():
            if digest(self.read_episode(index, space)) == digest(episode):
                return  # what interrupted that came after it
            raise UserError(f"{self.episode_path(index)} is there already; nothing replaces it")
        with replacing(self.episode_path(index)) as file:
            np.savez(file, **episode._asdict())

    def read_episode(self, index: int, space: Space) -> LoggedEpisode:
        """The episode, checked.

        Raises: UserError: the file is damaged, or the episode is not of this space.
        """
        path = self.episode_path(index)
        content = _arrays(path)
        try:
            episode = LoggedEpisode(**{name: content[name] for name in LoggedEpisode._fields})  # type: ignore[arg-type]
        except KeyError as error:
            raise UserError(f"{path} has no {error}") from error
        return check_episode(episode, space, str(path))

    def write_policy(self, publication: Publication) -> None:
        """Replaces the newest policy.

        Raises: UserError: it cannot be written.
        """
        values: dict[str, Any] = publication._asdict()
        values |= values.pop("policy").arrays()
        with replacing(self.policy_folder / "newest.npz") as file:
            np.savez(file, **values)

    def read_policy(self) -> Publication | None:
        """The newest policy, None before the first.

        Raises: UserError: the file is damaged.
        """
        path = self.policy_folder / "newest.npz"
        if not path.exists():
            return None
        content = _arrays(path)
        try:
            policy = StoredPolicy.of_arrays(content)
            episodes, steps, updates = (int(content[name]) for name in Publication._fields[1:4])
            return Publication(policy, episodes, steps, updates, bool(content["finished"]))
        except KeyError as error:
            raise UserError(f"{path} has no {error}") from error


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # zipfile, zlib and NumPy raise all kinds
        raise UserError(f"{path} is damaged: {reason(error)}") from error


def digest(episode: LoggedEpisode) -> str:
    """What an episode is known by, whatever file it is in."""
    arrays = episode.observations, episode.actions, episode.rewards, np.array(episode.terminated)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def check_space(space: Space, where: str) -> None:
    """Raises: UserError: no observation, no action, or bounds that are none."""
    low, high = np.array(space.action_low), np.array(space.action_high)
    fits = low.shape == high.shape and bounded(low, high) and bool((low <= high).all())
    if space.observation_size < 1 or not fits or not (low < high).any():
        raise UserError(
            f"{where} needs observation_size ≥ 1 and finite action_low < action_high of one length "
            "(equal where an action is fixed)"
        )
    parts = space.observation_parts
    if parts is not None and sum(size for _, size in parts) != space.observation_size:
        raise UserError(
            f"{where}: the parts {described(parts)} do not add up to the {space.observation_size} "
            "numbers of an observation"
        )
    if space.max_episode_steps is not None and space.max_episode_steps < 1:
        raise UserError(f"{where}: max_episode_steps is {space.max_episode_steps}, not 1 or more")


def whole(observations: Any, parts: Parts | None, where: str) -> Any:
    """Observations by their parts as one array; what is none of parts stays what it is.

    Args:
        observations: a mapping of arrays ``[N]`` or ``[T, N]``, a list of mappings of ``[N]``, or
            anything else.
        parts: of the space; None where it has none.
        where: what holds them, for the message.
    Raises: UserError: a part is missing or of another size, or the space has none.
    """
    many = isinstance(observations, Sequence) and bool(observations)
    if not isinstance(observations[0] if many else observations, Mapping):
        return observations
    if parts is None:
        raise UserError(f"{where}: observations are mappings, but have no parts in this space")
    try:
        if many:
            return np.stack([flatten(each, parts) for each in observations])
        return flatten(observations, parts)
    except ValueError as error:
        raise UserError(f"{where} {error}, in a space of {described(parts)}") from error


def check_episode(episode: LoggedEpisode, space: Space, where: str) -> LoggedEpisode:
    """An episode in float32, its actions clipped where they are outside by no more than rounding.

    Args:
        episode: ``observations [T + 1, O]`` (of a space with parts also their mapping, or a
            mapping for each), ``actions [T, A]`` and ``rewards [T]``, whatever makes such arrays,
            and a flag.
        space: sizes and bounds.
        where: what holds the episode, for the message.
    Raises: UserError: shapes, numbers that are not finite, actions outside the bounds.
    """
    observations, actions, rewards, terminated = episode
    observations = whole(observations, space.observation_parts, where)
    low, high = np.array(space.action_low), np.array(space.action_high)
    steps = len(np.atleast_1d(rewards))
    shapes = {
        "observations": (observations, (steps + 1, space.observation_size)),
        "actions": (actions, (steps, len(low))),
        "rewards": (rewards, (steps,)),
    }
    if not steps:
        raise UserError(f"{where} has no steps: its rewards are empty")
    arrays = []
    for name, (values, shape) in shapes.items():
        try:
            array = np.asarray(values, np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: {name} are no numbers") from error
        if array.shape != shape:
            raise UserError(
                f"{where}: {name} must be {list(shape)}, but are {list(array.shape)}, with "
                f"{steps} rewards; an episode of T steps has T + 1 observations"
            )
        with np.errstate(over="ignore"):
            single = array.astype(np.float32)
        if not np.isfinite(single).all():
            raise UserError(f"{where}: {name} must be finite in float32")
        arrays.append(single)
    far = np.maximum(FAR * (high - low), ROUNDING * np.maximum(1, abs(low)))
    if (arrays[1] < low - far).any() or (arrays[1] > high + far).any():
        raise UserError(f"{where}: actions must be between {low.tolist()} and {high.tolist()}")
    if np.ndim(terminated) or terminated not in (0, 1):
        raise UserError(f"{where}: terminated must be true or false")
    arrays[1] = np.clip(arrays[1], *inward(low, high))
    return LoggedEpisode(arrays[0], arrays[1], arrays[2], bool(terminated))
