"""Where the tests look beside the package."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
"""Larger datasets, where they lie beside the checkout."""
