"""Where parts that a config names have gone since it was written."""

import re
from typing import Any

MOVED = {
    "adabc_lightning.losses": "adabc_lightning.agent.losses",
    "adabc_lightning.objectives": "adabc_lightning.agent.objectives",
}
"""Dotted path in a config of version 0.1.0 → the path today; of all that lies below it, too."""

_OLD = re.compile(rf"\b({'|'.join(map(re.escape, MOVED))})(?=\.|$)")


def translated(content: Any) -> Any:
    """A config's values, of any shape, or a word of a command line, with today's paths."""
    if isinstance(content, str):
        return _OLD.sub(lambda found: MOVED[found[1]], content)
    if isinstance(content, dict):
        return {name: translated(value) for name, value in content.items()}
    if isinstance(content, list):
        return [translated(value) for value in content]
    return content
