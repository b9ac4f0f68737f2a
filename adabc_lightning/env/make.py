"""Gymnasium environments: made from an id, tried out, and whole episodes without noise in them."""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from adabc_lightning.agent.bounds import inward
from adabc_lightning.env.flat import FlatObservation
from adabc_lightning.env.options import check_env_kwargs
from adabc_lightning.env.simulator import hear_mujoco
from adabc_lightning.env.stepping import CheckedEnv, check_action, close
from adabc_lightning.errors import EnvironmentFailure, UserError, closest, key_of, one_line
from adabc_lightning.run.allowed import check_environment

PolicyFunction = Callable[[np.ndarray], np.ndarray]
"""Observations ``[O]`` or ``[B, O]`` → actions ``[A]`` or ``[B, A]``, no noise."""

_OF_ONES_OWN = (
    "one of your own is given with the package that registers it, my_package:Name-v0, and with "
    "--allow my_package"
)
_ROBOTICS_PACKAGE = "gymnasium_robotics"
# What the ids begin with that gymnasium_robotics registers when it is imported.
_ROBOTICS = ("AdroitHand", "AntMaze_", "Fetch", "FrankaKitchen", "HandManipulate", "HandReach",
             "PointMaze_")  # fmt: skip


def make_env(
    env_id: str,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    observation_keys: Sequence[str] | None = None,
) -> gymnasium.Env:
    """One environment, without Gymnasium's per-step checker; Dict observations are made flat.

    Args:
        env_id: Gymnasium id.
        max_episode_steps: time limit in steps instead of the environment's own; None keeps it.
        render_mode: Gymnasium's; None for no pictures.
        kwargs: what its constructor is given, plain values; None for nothing.
        observation_keys: which parts of Dict observations, in this order; None for all, by name.
            Without parts there is nothing to choose.
    Raises: UserError: the id is unknown, the environment cannot be made, its Dict observations
        cannot be flat, or the id says ``module:Name-v0`` with a module that may not be imported.
    """
    _prepare(env_id)
    options = check_env_kwargs(kwargs)
    hear_mujoco(env_id)
    if render_mode is not None:
        options["render_mode"] = render_mode
    try:
        with nullcontext() if render_mode is None else _whoever_renders():
            env = gymnasium.make(
                env_id, max_episode_steps=max_episode_steps, disable_env_checker=True, **options
            )
    except gymnasium.error.NameNotFound as error:
        raise UserError(f"environment {env_id!r} is not registered; {_near(env_id)}") from error
    except Exception as error:  # whatever a third party's constructor raises
        reason = (str(error).strip() or _where(error)).splitlines()[0]
        with_what = f" with {key_of('env_kwargs')} {one_line(str(kwargs))[:100]}" if kwargs else ""
        raise UserError(f"environment {env_id!r} cannot be made{with_what}: {reason}") from error
    if isinstance(env.observation_space, gymnasium.spaces.Dict):
        try:
            return FlatObservation(env, env_id, observation_keys)
        except BaseException:
            close(env)
            raise
    return env


def episode_limit(env_id: str) -> int | None:
    """The time limit in steps that an id is registered with; no environment is made.

    Returns: None where there is none, or none can be found out.
    """
    try:
        _prepare(env_id)
        return gymnasium.spec(env_id).max_episode_steps
    except Exception:  # whatever a third party's module raises; make_env says it
        return None


def _prepare(env_id: str) -> None:
    """Raises: UserError: the id's module may not be imported, or a package is missing."""
    check_environment(env_id)
    module, _, name = env_id.partition(":")
    _register(name if module == _ROBOTICS_PACKAGE else env_id)


@contextmanager
def _whoever_renders() -> Iterator[None]:
    """Without Gymnasium's guess that there will be no pictures: who wants one asks for it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is being initialised with render_mode")
        yield


def _near(env_id: str) -> str:
    """What an id that nobody has registered probably stands for, as it would work."""
    module, _, name = env_id.rpartition(":")
    close = closest(name, sorted(gymnasium.registry))
    if close is None:
        return f"{module} registers no such name" if module else _OF_ONES_OWN
    maker = gymnasium.registry[close].entry_point
    found_without = str(maker).startswith("gymnasium.") or close.startswith(_ROBOTICS)
    # The module's own, or another's that this import, too, makes known.
    return f"did you mean {f'{module}:{close}' if module and not found_without else close!r}?"


def _where(error: Exception) -> str:
    """For one without words: its type, and the module that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "?") if trace is not None else "?"
    return f"{type(error).__name__} in {module}"


def _register(env_id: str) -> None:
    """Imports the package that an id comes from, if it is of Gymnasium-Robotics."""
    if not env_id.startswith(_ROBOTICS):
        return
    try:
        # It greets with a notice on stderr, even where that does not concern the task;
        # docs/tasks.md says what it says.
        with redirect_stderr(io.StringIO()):
            import_module(_ROBOTICS_PACKAGE)
    except ImportError as error:
        if env_id in gymnasium.registry:  # somebody else's
            return
        raise UserError(
            f"environment {env_id!r} needs gymnasium_robotics, which cannot be imported; "
            "`pip install 'adabc_lightning[adroit]'` installs it"
        ) from error
    with suppress(ImportError, AttributeError):
        utils: Any = import_module(f"{_ROBOTICS_PACKAGE}.utils.mujoco_utils")
        utils.mujoco = _ComparableTypes(utils.mujoco)


class _ComparableTypes:
    """MuJoCo for Gymnasium-Robotics: types of joints equal the numbers that a model has.

    From MuJoCo 4 on ``model.jnt_type[0] in (mjJNT_HINGE, mjJNT_SLIDE)`` is never true, as its
    enumerations no longer equal NumPy's integers from the left; Fetch, hands and kitchen assert it.

    Args:
        mujoco: the module, or what this has been put around before.
    """

    def __init__(self, mujoco: Any) -> None:
        self._mujoco = getattr(mujoco, "_mujoco", mujoco)
        kinds = self._mujoco.mjtJoint.__members__
        self.mjtJoint = SimpleNamespace(**{name: int(kind) for name, kind in kinds.items()})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mujoco, name)


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
        # Some environments draw from the process's own generators.
        with isolate_rng(include_cuda=False):
            checked.reset(seed=0)
            checked.step(low_A + (high_A - low_A) / 2)
    except EnvironmentFailure as failure:
        raise UserError(f"{failure}, tried out before anything else") from failure
    finally:
        checked.close()


class Outcomes(NamedTuple):
    """What became of whole episodes, in order."""

    returns: list[float]
    """Raw, undiscounted."""
    lengths: list[int]
    """Steps."""
    successes: list[bool | None]
    """Whether a step was flagged by ``is_success`` or ``success`` of its info; None where none has
    such a flag."""

    @property
    def success_rate(self) -> float | None:
        """Share of the episodes; None where none says. Who is silent beside others has failed."""
        known = [success for success in self.successes if success is not None]
        return sum(known) / len(self.successes) if known else None


def evaluate(
    policy: PolicyFunction,
    envs: Sequence[gymnasium.Env],
    episodes: int,
    seed: int,
    timeout: float | None = None,
    idle: Callable[[], None] = lambda: None,
) -> Outcomes:
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
    Returns: returns, lengths and successes, in episode order.
    """
    returns, lengths = [0.0] * episodes, [0] * episodes
    successes: list[bool | None] = [None] * episodes
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
                    successes[index] = env.succeeded
                    del active[index]
                else:
                    active[index] = (env, observation)
    return Outcomes(returns, lengths, successes)
