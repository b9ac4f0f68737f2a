"""``data.env_kwargs``: what an environment's constructor is given beside its id."""

from collections.abc import Mapping
from typing import Any

from adabc_lightning.errors import UserError, key_of, one_line

_DEEPEST = 8  # lists in lists


def is_plain(value: Any, deepest: int = _DEEPEST) -> bool:
    """Whether a value is made of numbers, texts, flags, None, lists and mappings from texts."""
    if isinstance(value, dict):
        inner = all(isinstance(key, str) for key in value)
        return inner and deepest > 0 and all(is_plain(v, deepest - 1) for v in value.values())
    if isinstance(value, list):
        return deepest > 0 and all(is_plain(item, deepest - 1) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def check_env_kwargs(kwargs: Any) -> dict[str, Any]:
    """The mapping, as a dict.

    Args:
        kwargs: what the user gave; None for nothing.
    Raises: UserError: it is no mapping of plain values, or has what is said elsewhere.
    """
    key = key_of("env_kwargs")
    ours = {
        "max_episode_steps": f"set {key_of('max_episode_steps')} instead",
        "render_mode": "pictures are rollout --video's business",
        "disable_env_checker": "it is always true",
        "id": f"the id is {key_of('env_id')}",
    }
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        raise UserError(f"{key} is {one_line(str(kwargs))[:100]}; it must be a mapping or null")
    for name, value in kwargs.items():
        if name in ours:
            raise UserError(f"{key} has {name}; {ours[name]}")
        if not isinstance(name, str) or not is_plain(value):
            raise UserError(
                f"{key} has {name!r} of {type(value).__name__}; values must be numbers, texts, "
                "true or false, null, lists or mappings of them"
            )
    return dict(kwargs)


def read_env_kwargs(text: str | None) -> dict[str, Any] | None:
    """``--env-kwargs`` of a command line, a mapping as a config spells it; None where not given.

    Raises: UserError: it is none.
    """
    if text is None:
        return None
    import yaml

    from adabc_lightning.run.yaml_core import load_yaml

    try:
        content = load_yaml(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        content = text
    if not isinstance(content, dict):
        raise UserError(
            f"--env-kwargs is {one_line(text)[:100]}; it must be a mapping such as "
            "'{reward_type: dense}'"
        )
    return check_env_kwargs(content)
