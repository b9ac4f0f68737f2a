"""What a run's folder says of it in JSON. Imports no PyTorch."""

import errno
import json
from pathlib import Path
from typing import Any

from adabc_lightning.errors import UserError

RECORD = "experiment.json"
"""In the folder of an experiment's run: which cell of which experiment it is."""


def read_text(path: Path) -> str:
    """A file's text, UTF-8.

    Raises: OSError: it cannot be read, or is a pipe or device, which need never end. ValueError:
        it is no UTF-8.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is no file")
    return path.read_text(encoding="utf-8")


def load_json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; empty where there is none.

    Raises: UserError: it cannot be read or holds something else.
    """
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of JSON or of UTF-8
        raise UserError(f"{path} is damaged: it is no JSON") from error
    except RecursionError as error:
        raise UserError(f"{path} is damaged: its values are nested too deeply") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no mapping")
    return content
