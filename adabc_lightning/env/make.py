"""Gymnasium environments: their spaces, their full state, evaluation episodes."""

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np

from adabc_lightning.agent.bounds import inward
from adabc_lightning.env.stepping import CheckedEnv, check_action
from adabc_lightning.errors import EnvironmentFailure, UserError, nearest
from adabc_lightning.run.allowed import check_module

Policy = Callable[[np.ndarray], np.ndarray]
"""Observations ``[O]`` or ``[B, O]`` → actions ``[A]`` or ``[B, A]``, no noise."""

# What resets change beside the simulator's state: in MuJoCo's model, and in the environment.
_MOVED_BY_RESETS = ("body_pos", "body_quat", "site_pos", "site_quat")
_MEASURED_BY_RESETS = ("pen_length", "tar_length")

# What the ids begin with that gymnasium_robotics registers when it is imported.
_ROBOTICS = ("AdroitHand", "AntMaze_", "Fetch", "FrankaKitchen", "HandManipulate", "HandReach",
             "PointMaze_")  # fmt: skip


def make_env(
    env_id: str, max_episode_steps: int | None = None, render_mode: str | None = None
) -> gymnasium.Env:
    """One environment, without Gymnasium's per-step checker.

    Args:
        env_id: Gymnasium id.
        max_episode_steps: time limit in steps instead of the environment's own; None keeps it.
        render_mode: Gymnasium's; None for no pictures.
    Raises: UserError: the id is unknown, the environment cannot be made, or the id says
        ``module:Name-v0`` with a module that may not be imported.
    """
    module, colon, _ = env_id.partition(":")
    if module and colon:
        check_module(module, f"environment {env_id!r}")
    _register(env_id)
    rendering = {} if render_mode is None else {"render_mode": render_mode}
    try:
        return gymnasium.make(
            env_id, max_episode_steps=max_episode_steps, disable_env_checker=True, **rendering
        )
    except gymnasium.error.NameNotFound as error:
        known = sorted(gymnasium.registry)
        raise UserError(
            f"environment {env_id!r} is not registered; {nearest(env_id, known)}"
        ) from error
    except Exception as error:  # whatever a third party's constructor raises
        reason = (str(error).strip() or _where(error)).splitlines()[0]
        raise UserError(f"environment {env_id!r} cannot be made: {reason}") from error


def _where(error: Exception) -> str:
    """For one without words: its type, and the module that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "?") if trace is not None else "?"
    return f"{type(error).__name__} in {module}"


def _register(env_id: str) -> None:
    """Imports the package that an id comes from, if it is of one and nobody has registered it."""
    if env_id in gymnasium.registry or not env_id.startswith(_ROBOTICS):
        return
    try:
        # It greets with a notice on stderr, even where that does not concern the task;
        # docs/tasks.md says what it says.
        with redirect_stderr(io.StringIO()):
            import_module("gymnasium_robotics")
    except ImportError as error:
        raise UserError(
            f"environment {env_id!r} needs gymnasium_robotics, which cannot be imported; "
            "`pip install 'adabc_lightning[adroit]'` installs it"
        ) from error


def try_one_step(env: gymnasium.Env, timeout: float | None = None) -> None:
    """One reset, one step with the middle of the actions, and the environment is closed.

    Args:
        env: with spaces that :meth:`EnvironmentSpec.of` has taken; not one that is used later.
        timeout: seconds that each may take, None for any.
    Raises: UserError: it raises, hangs or gives what none may give.
    """
    from lightning.pytorch.utilities.seed import isolate_rng

    checked = CheckedEnv(env, timeout)
    low_A, high_A = inward(env.action_space.low, env.action_space.high)  # type: ignore[attr-defined]
    try:
        with isolate_rng(
            include_cuda=False
        ):  # some environments draw from the process's own generators
            checked.reset(seed=0)
            checked.step(low_A + (high_A - low_A) / 2)
    except EnvironmentFailure as failure:
        raise UserError(f"{failure}, tried out before anything else") from failure
    finally:
        checked.close()


def is_mujoco(env: gymnasium.Env) -> bool:
    """Whether MuJoCo simulates it."""
    return hasattr(env.unwrapped, "model") and hasattr(env.unwrapped, "data")


def get_state(env: gymnasium.Env) -> dict[str, Any] | None:
    """The full state of a MuJoCo environment, as plain containers and tensors.

    MuJoCo's integration state (positions and velocities alone differed on Walker2d in 6 of 10
    seeds), what resets of some environments change beside it (Adroit's targets, and the lengths
    of pens, measured anew in each position), the steps that count towards the time limit and the
    generator of the resets.

    Returns: the state, or None where the environment is not MuJoCo's and cannot be captured.
    """
    import torch

    if not is_mujoco(env):
        return None
    import mujoco

    base: Any = env.unwrapped

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    physics = np.empty(mujoco.mj_stateSize(base.model, kind))
    mujoco.mj_getState(base.model, base.data, physics, kind)
    return {
        "physics": torch.from_numpy(physics),
        "model": {name: torch.tensor(getattr(base.model, name)) for name in _MOVED_BY_RESETS},
        "measured": {
            name: float(getattr(base, name)) for name in _MEASURED_BY_RESETS if hasattr(base, name)
        },
        "generator": base.np_random.bit_generator.state,
        "elapsed_steps": [wrapper._elapsed_steps for wrapper in _time_limits(env)],
    }


class Bookmark:
    """Where an environment stood, cheap enough (5 µs) to be set before every step.

    Args:
        env: the environment, MuJoCo's; others have no state that can be captured.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        base: Any = env.unwrapped
        self._env, self._base, self._limits = env, base, _time_limits(env)
        self._captures = is_mujoco(env)
        if self._captures:
            import mujoco

            self._kind, self._get = mujoco.mjtState.mjSTATE_INTEGRATION, mujoco.mj_getState
            self._physics = np.empty(mujoco.mj_stateSize(base.model, self._kind))

    def set(self) -> None:
        """Notes what a step changes; what resets change stays as it is until the next reset."""
        if self._captures:
            base = self._base
            self._get(base.model, base.data, self._physics, self._kind)
            self._generator = base.np_random.bit_generator.state
            self._elapsed = [wrapper._elapsed_steps for wrapper in self._limits]

    def state(self) -> dict[str, Any] | None:
        """What :func:`get_state` would have returned there; no reset may lie between."""
        import torch

        state = get_state(self._env)
        if state is not None:
            state["physics"] = torch.from_numpy(self._physics.copy())
            state["generator"] = self._generator
            state["elapsed_steps"] = self._elapsed
        return state


def set_state(env: gymnasium.Env, state: dict[str, Any]) -> None:
    """Puts a state of :func:`get_state` back into an environment of the same id.

    Raises: UserError: the state is of another environment, or of one without (or with) a time
        limit.
    """
    env.reset()  # wrappers refuse to step before a first reset
    try:
        _put_back(env, state)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the checkpoint's environment state cannot be put back: {reason}"
        ) from error


def _put_back(env: gymnasium.Env, state: dict[str, Any]) -> None:
    import mujoco

    base: Any = env.unwrapped
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    physics = state["physics"].numpy()
    if physics.size != mujoco.mj_stateSize(base.model, kind):
        raise UserError(
            f"the checkpoint's simulator state has {physics.size} numbers, this environment's "
            f"{mujoco.mj_stateSize(base.model, kind)}; resume with the environment of the run"
        )
    for name in _MOVED_BY_RESETS:
        getattr(base.model, name)[:] = state["model"][name].numpy()
    mujoco.mj_setState(base.model, base.data, physics, kind)
    mujoco.mj_forward(base.model, base.data)
    mujoco.mj_setState(base.model, base.data, physics, kind)  # mj_forward moves the warm start
    measured = state.get("measured", {})
    for name in _MEASURED_BY_RESETS:  # and no other attribute that the file may name
        if name in measured:
            setattr(base, name, measured[name])
    base.np_random.bit_generator.state = state["generator"]
    limits = _time_limits(env)
    if len(limits) != len(state["elapsed_steps"]):
        raise UserError(
            f"the checkpoint's environment has {len(state['elapsed_steps'])} time limits, this one "
            f"{len(limits)}; resume with the data.max_episode_steps of the run"
        )
    for wrapper, steps in zip(limits, state["elapsed_steps"], strict=True):
        wrapper._elapsed_steps = steps


def _time_limits(env: gymnasium.Env) -> list[gymnasium.wrappers.TimeLimit]:
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            limits.append(env)
        env = env.env
    return limits


def evaluate(
    policy: Policy,
    envs: Sequence[gymnasium.Env],
    episodes: int,
    seed: int,
    timeout: float | None = None,
    idle: Callable[[], None] = lambda: None,
) -> tuple[list[float], list[int]]:
    """Whole episodes without exploration noise, several environments side by side.

    Episode i starts from ``reset(seed=seed + i)`` whatever ran before, so an evaluation
    depends on the policy and the seed alone; acting on all environments at once costs one
    forward pass a step.

    Args:
        policy: batched policy.
        envs: one or more environments, not those of training.
        episodes: how many to run.
        seed: seed of the first episode.
        timeout: seconds that a step or reset may take, None for any.
        idle: called after each of them; may raise to end the evaluation.
    Raises: NotFinite: the policy's action is no number.
        EnvironmentFailure: an environment raises, hangs or gives what none may give.
    Returns: raw undiscounted returns and lengths in steps, in episode order.
    """
    returns, lengths = [0.0] * episodes, [0] * episodes
    checked = [CheckedEnv(env, timeout) for env in envs]
    for first in range(0, episodes, len(envs)):
        active = {}
        for index, env in zip(range(first, episodes), checked, strict=False):
            active[index] = (env, env.reset(seed=seed + index))
            idle()
        while active:
            actions = policy(np.stack([observation for _, observation in active.values()]))
            check_action(actions)
            for (index, (env, _)), action in zip(list(active.items()), actions, strict=True):
                observation, reward, terminated, truncated = env.step(action)
                idle()
                returns[index] += reward
                lengths[index] += 1
                if terminated or truncated:
                    del active[index]
                else:
                    active[index] = (env, observation)
    return returns, lengths
