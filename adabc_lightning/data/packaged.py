"""The logs that come with the package. Imports no PyTorch."""

from pathlib import Path

ASSETS = Path(__file__).parent.parent / "assets"


def packaged_datasets() -> list[str]:
    """Their names, sorted."""
    return sorted(path.stem.replace("_", "-") for path in ASSETS.glob("*.hdf5"))
