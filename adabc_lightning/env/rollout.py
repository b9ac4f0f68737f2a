"""Episodes of one policy, several environments side by side, the same whoever runs beside whom.

Dimensions: L lanes (environments side by side), T steps of an episode, O observation, A action.

An episode is a function of the policy and of (seed, part, episode) alone. Matrix products may
round a row differently in a batch of another size or at another place in it, so the batch of a
part always has L rows, and episode i always runs in lane i mod L.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import gymnasium
import numpy as np

from adabc_lightning.agent.bounds import inward
from adabc_lightning.agent.numpy_policy import NumpyPolicy, StoredPolicy
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.env.stepping import CheckedEnv
from adabc_lightning.errors import EnvironmentFailure
from adabc_lightning.run.seeding import episode_streams

LANES = 8  # at most; with more, their simulators and the network no longer fit a core's cache
NOISE = 0.1  # σ of exploration in training, in action limits; data.exploration_noise
_AHEAD = 16  # rounds of all lanes that a lane of short episodes may be ahead of the others
_DRAWS = 128  # steps whose noise is drawn at once; the numbers do not depend on it


@dataclass(frozen=True)
class Part:
    """One policy and how many transitions it contributes.

    Args:
        index: the part's place in the dataset.
        policy: what acts; None for uniformly random actions.
        transitions: how many.
    """

    index: int
    policy: StoredPolicy | None
    transitions: int


class Rollout(NamedTuple):
    """A finished episode, step by step, float32."""

    seed: int
    """What the environment was reset with."""
    observations: np.ndarray
    """``[T + 1, O]``"""
    actions: np.ndarray
    """``[T, A]``"""
    rewards: np.ndarray
    """``[T]``"""
    terminated: bool
    """Whether the last step is a true terminal."""
    truncated: bool
    """Whether the environment's time limit ended it; where neither did, the budget cut it."""
    success: np.ndarray | None = None
    """``[T]`` bool, of a log that has such flags."""

    def cut(self, steps: int) -> "Rollout":
        """Its first steps; the whole of it, where it is no longer."""
        if steps >= len(self.rewards):
            return self
        rows = self.observations[: steps + 1], self.actions[:steps], self.rewards[:steps]
        success = None if self.success is None else self.success[:steps]
        return Rollout(self.seed, *rows, terminated=False, truncated=False, success=success)


def num_lanes(transitions: int, max_episode_steps: int | None) -> int:
    """How many environments side by side, so that whole episodes of full length share them evenly.

    Without a time limit an episode may be endless, and those beside it in vain: one.
    """
    if max_episode_steps is None:
        return 1
    episodes = math.ceil(transitions / max_episode_steps)
    return math.ceil(episodes / math.ceil(episodes / LANES))


class _Lane:
    """One environment, the episode that runs in it and the index of that or of the next one."""

    def __init__(self, env: gymnasium.Env, spec: EnvironmentSpec, episode: int, most: int) -> None:
        self.checked = CheckedEnv(env)
        self.observations = np.empty((most + 1, spec.observation_size), np.float32)
        self.actions = np.empty((most, spec.action_size), np.float32)
        self.rewards = np.empty(most, np.float32)
        self.episode = episode
        self.t = self.seed = 0
        self.active = False

    def start(self, seed: int, generator: np.random.Generator) -> None:
        """Resets the environment."""
        self.seed, self.generator = seed, generator
        self.t, self.active = 0, True
        self.observations[0] = self.checked.reset(seed)

    def end(self, how: tuple[bool, bool], lanes: int) -> Rollout:
        """The episode as far as it got; the lane's next one is so many lanes further.

        Args:
            how: whether it terminated, and whether a time limit truncated it.
            lanes: how many there are.
        """
        t = self.t
        self.active = False
        self.episode += lanes
        observations, actions = self.observations[: t + 1].copy(), self.actions[:t].copy()
        return Rollout(self.seed, observations, actions, self.rewards[:t].copy(), *how)


def roll_out(
    part: Part,
    spec: EnvironmentSpec,
    envs: Sequence[gymnasium.Env],
    *,
    seed: int,
    noise: float | None,
    first: int = 0,
    collected: int = 0,
) -> Iterator[Rollout]:
    """The episodes of a part in order, until it has its transitions; the last one is cut.

    Args:
        part: policy and budget.
        spec: sizes, bounds and time limit.
        envs: at least :func:`num_lanes` environments, whose resets forget what was before.
        seed: the dataset's.
        noise: σ of the Gaussian noise on a policy's actions, in action limits; None for the
            policy's own standard deviation, and ``NOISE`` where it has none.
        first: index of the first episode that is wanted.
        collected: transitions of those before it.
    Raises: EnvironmentFailure: the environment raises, or gives what none may give.
    """
    if collected >= part.transitions:
        return
    lanes = _Lanes(part, spec, envs, seed, noise, first)
    finished: dict[int, Rollout] = {}
    lengths: list[int] = []
    try:
        while True:
            left = part.transitions - collected
            lanes.begin(
                first, left, finished, sum(lengths) / len(lengths) if lengths else lanes.limit
            )
            for index, episode in lanes.run_until_one_ends(first, left):
                finished[index] = episode
                lengths.append(len(episode.rewards))
            while first in finished:
                episode = finished.pop(first).cut(part.transitions - collected)
                first += 1
                collected += len(episode.rewards)
                yield episode
                if collected >= part.transitions:
                    return
    except EnvironmentFailure as failure:
        failure.add(f" (after reset(seed={lanes.current.seed}))")
        raise


class _Lanes:
    """The environments side by side, and the policy that acts in all of them at once."""

    def __init__(
        self,
        part: Part,
        spec: EnvironmentSpec,
        envs: Sequence[gymnasium.Env],
        seed: int,
        noise: float | None,
        first: int,
    ) -> None:
        self.limit = min(spec.max_episode_steps or part.transitions, part.transitions)
        self._width = width = num_lanes(part.transitions, spec.max_episode_steps)
        self._lanes = [
            _Lane(env, spec, first + (row - first) % width, self.limit)
            for row, env in enumerate(envs[:width])
        ]
        self.current = self._lanes[0]
        """Whoever stepped last, for the message when that fails."""
        self._part, self._seed = part, seed
        self._low, self._high = inward(spec.action_low, spec.action_high)
        scale_A = np.full(spec.action_size, NOISE if noise is None else noise, np.float32)
        if noise is None and part.policy is not None and part.policy.std is not None:
            scale_A = part.policy.std
        self._sigma = scale_A * (self._high - self._low) / 2
        self._policy, self._samples = None, False
        if part.policy is not None:
            self._policy = NumpyPolicy(part.policy, self._low, self._high)
            self._samples = noise is None and part.policy.head is not None
            if self._samples:
                self._sigma = np.ones_like(self._sigma)
        self._draws_LDA = np.zeros((width, _DRAWS, spec.action_size), np.float32)
        self._observation_LO = np.zeros((width, spec.observation_size), np.float32)
        self._row_L = np.arange(width)

    def begin(
        self, first: int, left: int, finished: Mapping[int, Rollout], expected_steps: float
    ) -> None:
        """Starts, in the idle lanes, the episodes that are probably needed.

        Args:
            first: the first episode that is still wanted; it always starts.
            left: transitions from there to the part's end.
            finished: later ones that have ended.
            expected_steps: length of an episode of which nothing is known.
        """
        idle = sum(not lane.active for lane in self._lanes)
        before = 0.0  # transitions that the episodes before this one will probably bring
        for episode in range(first, first + _AHEAD * self._width):
            if before >= left or not idle:
                return
            if episode in finished:
                before += len(finished[episode].rewards)
                continue
            row = episode % self._width
            lane = self._lanes[row]
            if not lane.active and lane.episode == episode:
                self.current = lane
                lane.start(*episode_streams(self._seed, self._part.index, episode))
                self._observation_LO[row] = lane.observations[0]
                idle -= 1
            running = lane.active and lane.episode == episode
            before += max(lane.t, expected_steps) if running else expected_steps

    def run_until_one_ends(self, first: int, left: int) -> list[tuple[int, Rollout]]:
        """Steps all active lanes until an episode ends, or the first one has all that is left."""
        leader = self._lanes[first % self._width]
        active = [(row, lane) for row, lane in enumerate(self._lanes) if lane.active]
        ended: list[tuple[_Lane, tuple[bool, bool]]] = []
        while not ended and leader.t < left:
            action_LA = self._act(active)
            for row, lane in active:
                self.current, t = lane, lane.t
                lane.actions[t] = action = action_LA[row]
                observation, reward, terminated, truncated = lane.checked.step(action)
                lane.observations[t + 1] = self._observation_LO[row] = observation
                lane.rewards[t] = reward
                lane.t = t + 1
                if terminated or truncated or t + 1 == self.limit:
                    ended.append((lane, (terminated, truncated and not terminated)))
        if leader.t >= left and all(lane is not leader for lane, *_ in ended):
            ended.append((leader, (False, False)))
        return [(lane.episode, lane.end(how, self._width)) for lane, how in ended]

    def _act(self, active: list[tuple[int, _Lane]]) -> np.ndarray:
        """``clip(π(s) + N(0, σ), low, high)``, samples or uniform draws, ``[L, A]`` float32."""
        for row, lane in active:
            if lane.t % _DRAWS == 0:
                shape = self._draws_LDA.shape[1:]
                if self._policy is None:
                    self._draws_LDA[row] = lane.generator.uniform(self._low, self._high, shape)
                else:
                    self._draws_LDA[row] = self._sigma * lane.generator.standard_normal(shape)
        action_LA = self._draws_LDA[self._row_L, [lane.t % _DRAWS for lane in self._lanes]]
        if self._policy is not None:
            if self._samples:
                action_LA = self._policy.sample(self._observation_LO, action_LA)
            else:
                action_LA += self._policy(self._observation_LO)
            np.maximum(action_LA, self._low, out=action_LA)
            np.minimum(action_LA, self._high, out=action_LA)
        return action_LA
