"""What a run's folder says of it in JSON. Imports no PyTorch."""

import json
from pathlib import Path
from typing import Any

from adabc_lightning.errors import UserError

RECORD = "experiment.json"
"""In the folder of an experiment's run: which cell of which experiment it is."""


def load_json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; empty where there is none.

    Raises: UserError: it cannot be read or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of JSON or of UTF-8
        raise UserError(f"{path} is damaged: it is no JSON") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no mapping")
    return content
