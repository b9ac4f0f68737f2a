"""``make lowest``: an environment of other versions than the pinned ones, and the tests in it.

    python tests/versions.py                  # every direct dependency at its lowest
    python tests/versions.py --torch 2.12.1   # the pinned ones, but for torch
    python tests/versions.py --tests "tests/agent/test_engine.py -k compiled"

The environment lies in ``build/versions/`` and is made anew when ``pyproject.toml`` has changed;
uv resolves and installs it. It needs a package index and, where that has no torch without CUDA,
some gigabytes (``UV_TORCH_BACKEND=cpu`` asks PyTorch's own index for one).
"""

import argparse
import hashlib
import os
import shlex
import subprocess
import sys
import venv
from pathlib import Path

from release import REPOSITORY

REDUCED = (
    "tests/agent/test_engine.py tests/agent/test_update.py tests/run/test_resume.py"
    " tests/run/test_v010.py tests/run/test_checkpoint_files.py tests/data/test_tables.py"
)
"""Engines, resume and formats: what a library's version can break without a word."""
EXTRAS = ("dev", "tensorboard", "adroit", "report", "tables", "export", "video", "ray")
# Libraries deprecate what other libraries use, and old ones (Ray) leave files open; here that is
# nobody's mistake.
LENIENT = [
    word
    for kind in (
        "DeprecationWarning",
        "PendingDeprecationWarning",
        "FutureWarning",
        "ResourceWarning",
        "pytest.PytestUnraisableExceptionWarning",
    )
    for word in ("-W", f"default::{kind}")
]


def install_words(torch: str | None, constraints: Path) -> list[str]:
    """What ``uv pip install`` is told.

    Args:
        torch: its version, with all else as pinned; None for the lowest of everything.
        constraints: a file that pins all but torch.
    """
    words = ["-r", "pyproject.toml", *(w for extra in EXTRAS for w in ("--extra", extra))]
    if torch is None:
        return [*words, "--resolution", "lowest-direct"]
    return [*words, "--constraint", str(constraints), f"torch=={torch}"]


def environment(torch: str | None, folder: Path) -> Path:
    """The interpreter of an environment with these versions, made where it is not there yet."""
    home = folder / (f"torch-{torch}" if torch else "lowest")
    python, mark = home / "bin" / "python", home / "made-of"
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    declared = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    digest = hashlib.sha256((declared + (pins if torch else "")).encode()).hexdigest()
    if mark.is_file() and mark.read_text() == digest:
        return python
    own = folder / "uv" / "bin"
    if not (own / "uv").exists():
        venv.create(folder / "uv", with_pip=True)
        _run(own / "python", "-m", "pip", "install", "--quiet", "uv")
    others = [line for line in pins.splitlines() if not line.startswith("torch==")]
    (folder / "constraints.txt").write_text("\n".join(others) + "\n", encoding="utf-8")
    _run(own / "uv", "venv", "--quiet", "--clear", "--seed", "--python", sys.executable, home)
    install = (own / "uv", "pip", "install", "--quiet", "--python", python)
    _run(*install, *install_words(torch, folder / "constraints.txt"))
    _run(*install, "--no-deps", "--editable", ".")
    mark.write_text(digest)
    return python


def _run(*words: str | Path, **more: str) -> None:
    """A command that must succeed, shown."""
    print("$", shlex.join(map(str, words)), flush=True)
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    status = subprocess.run(
        [*map(str, words)], cwd=REPOSITORY, env={**own, **more}, check=False
    ).returncode
    if status:
        raise SystemExit(status)


def main() -> None:
    """Makes the environment, says what is in it, runs the tests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch", metavar="VERSION", help="all else as pinned (default: lowest)")
    parser.add_argument(
        "--tests", default="", help=f"words for pytest; reduced: {REDUCED} (default: all tests)"
    )
    options = parser.parse_args()
    folder = REPOSITORY / "build" / "versions"
    folder.mkdir(parents=True, exist_ok=True)
    python = environment(options.torch or None, folder)
    names = ("torch", "lightning", "torchrl", "gymnasium", "mujoco", "numpy", "h5py")
    shown = f"import importlib.metadata as m; print(*(n + ' ' + m.version(n) for n in {names}))"
    _run(python, "-c", shown)
    tests = shlex.split(REDUCED if options.tests == "reduced" else options.tests)
    _run(
        python,
        "-m",
        "pytest",
        *(tests or ["-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"]),
        *LENIENT,
    )


if __name__ == "__main__":
    main()
