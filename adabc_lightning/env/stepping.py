"""The border to an environment: what crosses it is copied, and what it does wrong is one sentence.

An observation may be the environment's own buffer, which its next step overwrites, and an action
may be changed or kept by it: neither is shared. A hang becomes an error.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import gymnasium
import numpy as np

from adabc_lightning.env.observations import Misfit, column_names
from adabc_lightning.errors import EnvironmentFailure, NotFinite, UserError
from adabc_lightning.run.stopping import Stopped

Result = TypeVar("Result")

LARGEST = float(np.finfo(np.float32).max)
"""What is larger, or no number, is not finite in the ring's float32."""

SUCCESS = ("is_success", "success")
"""What infos flag a success by; the first that is a number counts."""


class CheckedEnv:
    """``reset`` and ``step`` of one environment, with its answers copied and checked.

    An action is handed over as a copy in the type and within the bounds of the action space.

    The checks cost a few µs a step, the time limit one comparison where it is off and some 10 µs
    where it is on (``benchmarks/guard_cost.py``).

    Args:
        env: the environment; its spaces are flat boxes.
        timeout: seconds that one call may take, None for any. A signal interrupts what runs in
            Python or waits in a system call (sleep, socket, pipe); compiled code that never
            returns to Python cannot be interrupted.
    """

    def __init__(self, env: gymnasium.Env, timeout: float | None = None) -> None:
        self.env = env
        self.timeout = timeout
        self.episode_steps = 0
        self.succeeded: bool | None = None
        """Whether a step of this episode was flagged as success; None where none says so."""
        self._name = env.spec.id if env.spec else type(env.unwrapped).__name__
        self._shape = env.observation_space.shape
        self._parts = getattr(env.observation_space, "parts", None)
        space = env.action_space
        assert isinstance(space, gymnasium.spaces.Box)  # EnvironmentSpec.of has checked it
        self._type, self._low, self._high = space.dtype, space.low.copy(), space.high.copy()

    def reset(self, seed: int | None = None) -> np.ndarray:
        """A new episode's first observation ``[O]``.

        Raises: EnvironmentFailure: the environment raised, hung, or gave something else.
        """
        self.episode_steps, self.succeeded = 0, None
        answer = self._call("reset", self.env.reset, seed=seed)
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise self._failure("reset", f"gave {_kind(answer)} instead of (observation, info)")
        return self._checked("reset", answer[0])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Observation ``[O]``, reward, terminated, truncated.

        Args:
            action: ``[A]``; float32 is rounded at most where the action space is of another type.
        Raises: EnvironmentFailure: as :meth:`reset`.
        """
        self.episode_steps += 1
        own = np.minimum(np.maximum(np.asarray(action, self._type), self._low), self._high)
        answer = self._call("step", self.env.step, own)
        if not (isinstance(answer, tuple) and len(answer) == 5):
            raise self._failure(
                "step",
                f"gave {_kind(answer)} instead of (observation, reward, terminated, truncated, "
                "info)",
            )
        observation, reward, terminated, truncated, info = answer
        observation = self._checked("step", observation)
        number = reward if type(reward) is float else _number(reward)
        if number is None:
            raise self._failure("step", f"gave {_kind(reward)} as reward instead of a number")
        if not abs(number) <= LARGEST:
            raise self._failure("step", f"gave the reward {number}, which is not a finite float32")
        for flag in (terminated, truncated):
            if type(flag) is not bool and _number(flag) is None:  # a text is true, whatever it says
                problem = f"gave {_kind(flag)} as terminated or truncated instead of one flag"
                raise self._failure("step", problem)
        for name in SUCCESS if isinstance(info, dict) else ():
            if name in info and (success := _number(info[name])) is not None:
                self.succeeded = bool(self.succeeded) or success > 0
                break
        return observation, number, bool(terminated), bool(truncated)

    def restore(self, set_state: Callable[..., None], state: dict[str, Any]) -> None:
        """Puts a saved state back, by a function that resets the environment first."""
        self._call("reset", set_state, self.env, state)

    def close(self) -> None:
        """Closes the environment; one that failed may fail here, too, and nobody needs that."""
        with suppress(EnvironmentFailure):
            self._call("close", self.env.close)

    def _call(
        self, what: str, function: Callable[..., Result], *args: Any, **kwargs: Any
    ) -> Result:
        try:
            if self.timeout is None:
                return function(*args, **kwargs)
            with time_limit(self.timeout):
                return function(*args, **kwargs)
        except _TimedOut:
            raise self._failure(
                what, f"did not answer within data.step_timeout {self.timeout:g} seconds"
            ) from None
        except (UserError, Stopped):  # about a state that does not fit; a signal to this process
            raise
        except Misfit as error:
            raise self._failure(what, str(error)) from error
        except (Exception, SystemExit) as error:  # whatever a third party's environment raises
            reason = ": ".join(filter(None, [type(error).__name__, " ".join(str(error).split())]))
            raise self._failure(what, f"raised {reason}") from error

    def _checked(self, what: str, observation: Any) -> np.ndarray:
        if not isinstance(observation, np.ndarray) or observation.dtype.kind not in "fiub":
            raise self._failure(what, f"gave {_kind(observation)} as observation, not numbers")
        if observation.shape != self._shape:
            raise self._failure(
                what,
                f"gave an observation of shape {list(observation.shape)} instead of "
                f"{list(self._shape or [])}",
            )
        if not all_finite(observation):
            index, value = first_not_finite(observation)
            place = f"number {index}"
            if self._parts is not None:
                place += f" ({column_names(self._parts)[index]})"
            raise self._failure(
                what, f"gave an observation whose {place} is {value}, not a finite float32"
            )
        return np.array(observation)

    def _failure(self, what: str, problem: str) -> EnvironmentFailure:
        where = f"step {self.episode_steps} of an episode" if what == "step" else what
        return EnvironmentFailure(f"environment {self._name!r} {problem} in {where}")


def close(env: gymnasium.Env) -> None:
    """Closes an environment that is not needed any more; so what fails in that is not, either."""
    with suppress(Exception, SystemExit):
        env.close()


def check_action(action: np.ndarray) -> None:
    """Raises: NotFinite: the policy's action ``[A]`` or ``[B, A]`` is not finite in float32."""
    if not all_finite(action):
        index, value = first_not_finite(abs(action).reshape(-1, action.shape[-1]).max(axis=0))
        raise NotFinite(f"number {index} of the policy's action is {value}")


def all_finite(values: np.ndarray) -> bool:
    """Whether float32 can hold all the numbers, of any shape ``[*]``."""
    # The sum of squares takes half the time; where it is too large, or no number, look closer.
    if values.dtype.kind == "f" and float(np.vdot(values, values)) <= LARGEST:
        return True
    return float(abs(values).max()) <= LARGEST


def first_not_finite(values: np.ndarray) -> tuple[int, float]:
    """Index and value of the first number ``[N]`` that float32 cannot hold."""
    index = int(np.flatnonzero(~(abs(values) <= LARGEST))[0])
    return index, float(values[index])


def can_time_out() -> bool:
    """Whether :func:`time_limit` works here: on Unix, in the main thread."""
    return hasattr(signal, "setitimer") and (threading.current_thread() is threading.main_thread())


class _TimedOut(BaseException):
    """No ``Exception``: an environment that catches all of those must not go on."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupts its body by an alarm signal; main thread only.

    Raises: _TimedOut: the time was up, also where the body has caught that and gone on.
    """
    expired = False

    def expire(number: int, frame: Any) -> None:
        nonlocal expired
        expired = True
        raise _TimedOut

    before = signal.signal(signal.SIGALRM, expire)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if expired:
                raise _TimedOut
    finally:
        signal.signal(signal.SIGALRM, before)


def _number(value: Any) -> float | None:
    """A scalar as a float, None for anything else; texts that spell numbers are none."""
    if isinstance(value, (float, int, np.number, np.bool_)) or (
        getattr(value, "ndim", None) == 0 and not isinstance(value, (str, bytes))
    ):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            return None
    return None


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} values"
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"a value of type {kind}" + (f" and shape {list(shape)}" if shape is not None else "")
