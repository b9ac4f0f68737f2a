"""The full state of an environment, from which a run goes on to the bit: MuJoCo's, or its own."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import (
    HumanRendering,
    OrderEnforcing,
    PassiveEnvChecker,
    RecordEpisodeStatistics,
    RecordVideo,
    RenderCollection,
    TimeLimit,
)

from adabc_lightning.env.contents import MOST_ENTRIES, contents
from adabc_lightning.env.flat import FlatObservation
from adabc_lightning.errors import UserError, reason

# What resets change in MuJoCo's model, beside the simulator's state.
_MOVED_BY_RESETS = ("body_pos", "body_quat", "site_pos", "site_quat")
# What environments with mocap bodies read before a step, as the last substep left it.
_READ_BEFORE_STEPS = ("xpos", "xquat")
# Franka's kitchen keeps the tasks that are left in a set, which is not captured.
_UNCAPTURED = ("tasks_to_complete",)
# Wrappers without a state that steps depend on, but for the time limit's count.
_STATELESS = (
    *(OrderEnforcing, PassiveEnvChecker, TimeLimit, FlatObservation),
    *(HumanRendering, RecordEpisodeStatistics, RecordVideo, RenderCollection),
)

_NUMBERS = frozenset([bool, int, float, *(np.dtype(code).type for code in "?bhilqBHILQefd")])


def is_mujoco(env: gymnasium.Env) -> bool:
    """Whether MuJoCo simulates it."""
    return hasattr(env.unwrapped, "model") and hasattr(env.unwrapped, "data")


def _saves_itself(env: gymnasium.Env) -> bool:
    """Whether it has ``state_dict`` and ``load_state_dict``."""
    hooks = (getattr(env.unwrapped, name, None) for name in ("state_dict", "load_state_dict"))
    return all(map(callable, hooks))


def _captures(env: gymnasium.Env) -> bool:
    return is_mujoco(env) and not any(hasattr(env.unwrapped, name) for name in _UNCAPTURED)


class Bookmark:
    """Where an environment stood, cheap enough (some 6 µs) to be set before every step.

    The full state as plain containers and tensors. Of an environment that has ``state_dict`` and
    ``load_state_dict``: what they give and take (names → numbers, booleans and arrays), the steps
    that count towards the time limit and its generator (``np_random``). Else MuJoCo's integration
    state (positions and velocities alone differed on Walker2d in 6 of 10 seeds), what resets of
    some environments change beside it in the model (Adroit's targets), the numbers and small arrays
    that the environment keeps as attributes (Fetch's goal, lengths of pens), also those of an
    environment within it (PointMaze's), the steps that count towards the time limit and the
    generators. Of either kind the numbers and small arrays of the wrappers around it.

    What MuJoCo's environments, and wrappers, keep in lists, deques, dicts, texts, generators and
    objects is not captured: where it is no longer as it was when this was made, there is no state.

    Args:
        env: not yet reset.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        base: Any = env.unwrapped
        self._base, self._limits = base, _time_limits(env)
        self._own = _saves_itself(env)
        self._captures = not self._own and _captures(env)
        self._wrappers = _wrappers(env)
        self._holders: dict[str, Any] = {"": base}
        if self._captures:
            import mujoco

            self._kind, self._get = mujoco.mjtState.mjSTATE_INTEGRATION, mujoco.mj_getState
            self._physics = np.empty(mujoco.mj_stateSize(base.model, self._kind))
            self._holders = _holders(base)  # of one that saves itself nothing within it counts
            self._poses = _READ_BEFORE_STEPS if base.model.nmocap else ()
        self._keepers = [*self._wrappers.values(), *(() if self._own else self._holders.values())]
        some = self._own or self._captures
        self._constant = contents(self._keepers) if some else None

    def now(self) -> dict[str, Any] | None:
        """The state as it is, or None where it cannot be captured.

        Raises: UserError: its own ``state_dict`` gives something else than numbers.
        """
        self.set()
        return self.state()

    def set(self) -> None:
        """Notes what a step changes; the model, which resets change, stays until the next one."""
        if not (self._own or self._captures):
            return
        base, holders = self._base, self._holders
        if self._own:
            self._attributes = {"": {k: _noted(k, v) for k, v in base.state_dict().items()}}
        else:
            self._get(base.model, base.data, self._physics, self._kind)
            self._attributes = {name: _copied(vars(holder)) for name, holder in holders.items()}
            self._read = {name: getattr(base.data, name).copy() for name in self._poses}
        self._generators = {
            name: holder.np_random.bit_generator.state for name, holder in holders.items()
        }
        self._around = {name: _copied(vars(wrapper)) for name, wrapper in self._wrappers.items()}
        self._elapsed = [wrapper._elapsed_steps for wrapper in self._limits]

    def state(self) -> dict[str, Any] | None:
        """What :meth:`now` would have returned there; no reset may lie between."""
        import torch

        if self._constant is None or contents(self._keepers) != self._constant:
            return None
        around = _numbers_of(self._around)
        if self._own:
            state = {
                "own": {name: _plain(value) for name, value in self._attributes[""].items()},
                "generator": self._generators[""],
                "elapsed_steps": self._elapsed,
            }
            return {**state, "attributes": around} if around else state
        inner = dict(self._generators)
        state = {
            "physics": torch.from_numpy(self._physics.copy()),
            "model": {
                name: torch.tensor(getattr(self._base.model, name)) for name in _MOVED_BY_RESETS
            },
            "attributes": {**_numbers_of(self._attributes), **around},
            "generator": inner.pop(""),
            "elapsed_steps": self._elapsed,
        }
        if inner:
            state["generators"] = inner
        if self._read:
            state["poses"] = {name: torch.from_numpy(pose) for name, pose in self._read.items()}
        return state


def set_state(env: gymnasium.Env, state: dict[str, Any]) -> None:
    """Puts a state of :class:`Bookmark` back into an environment of the same id.

    Raises: UserError: the state is of another environment, or of one without (or with) a time
        limit.
    """
    env.reset()  # wrappers refuse to step before a first reset
    try:
        _put_back(env, state)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the checkpoint's environment state cannot be put back: {reason(error)}"
        ) from error


def _put_back(env: gymnasium.Env, state: dict[str, Any]) -> None:
    if ("own" in state) != _saves_itself(env):
        raise UserError(
            "the checkpoint's environment had its own state_dict and load_state_dict, or this one "
            "has them now; resume with the environment of the run"
        )
    if "own" in state:
        own = state["own"].items()
        base: Any = env.unwrapped
        base.load_state_dict({k: v.numpy().copy() if hasattr(v, "numpy") else v for k, v in own})
        base.np_random.bit_generator.state = state["generator"]
        _put_attributes(_wrappers(env), state.get("attributes", {}))
        _put_elapsed(env, state["elapsed_steps"])
        return
    _put_back_mujoco(env, state)


def _put_back_mujoco(env: gymnasium.Env, state: dict[str, Any]) -> None:
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
    for name in _READ_BEFORE_STEPS:
        if name in state.get("poses", {}):
            getattr(base.data, name)[:] = state["poses"][name].numpy()
    holders = _holders(base)
    # "measured": what checkpoints of 0.1.0 have of the attributes.
    attributes = {**state.get("measured", {}), **state.get("attributes", {})}
    _put_attributes({**holders, **_wrappers(env)}, attributes)
    for name, generator in {"": state["generator"], **state.get("generators", {})}.items():
        if name in holders:
            holders[name].np_random.bit_generator.state = generator
    _put_elapsed(env, state["elapsed_steps"])


def _put_elapsed(env: gymnasium.Env, elapsed: list[int]) -> None:
    limits = _time_limits(env)
    if len(limits) != len(elapsed):
        raise UserError(
            f"the checkpoint's environment has {len(elapsed)} time limits, this one "
            f"{len(limits)}; resume with the data.max_episode_steps of the run"
        )
    for wrapper, steps in zip(limits, elapsed, strict=True):
        wrapper._elapsed_steps = steps  # type: ignore[assignment]


def _noted(name: str, value: Any) -> Any:
    """A copy of a part of an environment's own state.

    Raises: UserError: it is neither a number nor an array of them.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return value.copy()
    if type(value) in _NUMBERS and isinstance(name, str):
        return value
    raise UserError(
        f"the environment's state_dict has {name!r:.60}, {type(value).__name__}; it must be a "
        "mapping of names to numbers and NumPy arrays of them"
    )


def _put_attributes(holders: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Numbers where numbers are, arrays where arrays are, and no other attribute."""
    for whole, value in saved.items():
        holder, _, name = whole.rpartition(".")
        if holder not in holders or name not in vars(holders[holder]):
            continue
        now = vars(holders[holder])[name]
        if hasattr(value, "numpy"):
            if now is None or _is_own_array(now):
                setattr(holders[holder], name, value.numpy().copy())
        elif now is None or type(now) in _NUMBERS:
            setattr(holders[holder], name, value if now is None else type(now)(value))


def _holders(base: Any) -> dict[str, Any]:
    """The environment, named nothing, and those that it keeps within, by their attributes."""
    inner = {
        name: value.unwrapped
        for name, value in vars(base).items()
        if isinstance(value, gymnasium.Env)
    }
    return {"": base, **inner}


def _wrappers(env: gymnasium.Env) -> dict[str, gymnasium.Wrapper]:
    """Those that may have a state, by their place, counted from the environment outwards."""
    return {
        f"<wrapper {place}>": wrapper
        for place, wrapper in enumerate(reversed(_around(env)))
        if type(wrapper) not in _STATELESS
    }


def _numbers_of(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Those of some holders, as a checkpoint has them: ``holder.name`` → number or array."""
    return {
        f"{holder}.{name}" if holder else name: _plain(value)
        for holder, each in attributes.items()
        for name, value in each.items()
        if isinstance(value, np.ndarray) or type(value) in _NUMBERS
        if name != "_np_random_seed"
    }


def _copied(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """All of them, arrays as copies; those that are no state as None."""
    kept = dict(attributes)
    for name, value in attributes.items():
        if type(value) is np.ndarray:
            kept[name] = value.copy() if _is_own_array(value) else None
    return kept


def _is_own_array(value: Any) -> bool:
    """Whether it is a small array of numbers that is no view of the simulator's own memory."""
    if type(value) is not np.ndarray or value.dtype.kind not in "fiub" or value.size > MOST_ENTRIES:
        return False
    while isinstance(value.base, np.ndarray):
        value = value.base
    return value.base is None


def _plain(value: Any) -> Any:
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return value.item() if isinstance(value, np.generic) else value


def _time_limits(env: gymnasium.Env) -> list[TimeLimit]:
    return [wrapper for wrapper in _around(env) if isinstance(wrapper, TimeLimit)]


def _around(env: gymnasium.Env) -> list[gymnasium.Wrapper]:
    """All that are around an environment, the outermost first."""
    around: list[gymnasium.Wrapper] = []
    while isinstance(env, gymnasium.Wrapper):
        around.append(env)
        env = env.env
    return around
