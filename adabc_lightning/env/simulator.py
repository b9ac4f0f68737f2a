"""What MuJoCo says while it simulates: a line of ours, once, and no file of its own."""

import re
import sys
from importlib import import_module

import gymnasium
from gymnasium.envs.registration import load_env_creator

from adabc_lightning.errors import warn

_said: set[str] = set()


def hear_mujoco(env_id: str) -> None:
    """Before an environment is made whose module imports MuJoCo.

    MuJoCo writes each warning to stderr, for every environment that is made anew, and to a
    ``MUJOCO_LOG.TXT`` in the working folder. A handler that somebody else has set stays.

    Args:
        env_id: Gymnasium id; what is wrong with it is left to ``gymnasium.make``.
    """
    module, _, name = env_id.rpartition(":")
    try:
        if module:  # which registers it
            import_module(module)
        point = gymnasium.registry[name].entry_point
        if isinstance(point, str):
            load_env_creator(point)  # imports what the environment does
    except Exception:  # gymnasium.make meets it again
        return
    mujoco = sys.modules.get("mujoco")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(say_once)


def say_once(message: str) -> None:
    """Says what nobody has said yet, whatever the numbers in it; nothing of deprecations.

    Those are about the model's file, which is the environment's.

    Args:
        message: of MuJoCo.
    """
    words = re.sub(r"\d+", "", message)
    if "deprecated" in message or words in _said:
        return
    _said.add(words)
    warn(f"MuJoCo: {message}")
