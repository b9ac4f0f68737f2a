"""Which version of a library runs here, also of one that is only unpacked."""

import importlib.metadata
import sys
from functools import cache
from importlib import import_module

installed = cache(importlib.metadata.version)
"""Parses the library's metadata, and ``summary.json`` asks after each evaluation."""


def version(name: str) -> str:
    """What a library was installed as, else what it says of itself.

    Args:
        name: by which it is installed and imported.
    Returns: ``"2.6.6"``, with its build where the library is imported and names one (PyPI's torch:
        ``"2.11.0+cu130"``); ``"0.1.0 (not installed)"`` where it runs from a folder, as this
        package does in a clone without an installation; ``"not installed"``.
    """
    try:
        number = installed(name)
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        said = str(getattr(sys.modules.get(name), "__version__", ""))
        return said if said.startswith(f"{number}+") else number
    try:
        return f"{import_module(name).__version__} (not installed)"
    except (ImportError, AttributeError):
        return "not installed"
