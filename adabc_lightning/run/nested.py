"""Nested configs by their dotted keys. Imports no PyTorch."""

from collections.abc import Iterator, Mapping
from typing import Any


def dotted(config: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a nested config; lists are values."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{group}{name}.")
        else:
            yield f"{group}{name}", value


def at(config: Any, key: str, default: Any = None) -> Any:
    """A value by its dotted key; the default where there is none."""
    for name in key.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return default
        config = config[name]
    return config


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What a config has otherwise than an earlier one: ``alpha.target 0.5 (was 1.05)``.

    Keys that only one of them has are another version's, and left out; a list is only named.
    """
    had = dict(dotted(before))
    return [
        f"another {key}" if isinstance(value, list) else f"{key} {value} (was {had[key]})"
        for key, value in dotted(after)
        if key in had and had[key] != value
    ]
