"""``make docker-check``: the Dockerfile's steps without an engine, in a folder for a root.

    python tests/dockerfile.py [NAME=VALUE ...]

Folders become folders below a temporary one, the base image's Python a fresh virtual environment;
``apt-get install`` is simulated where there is apt. Arguments override the file's ``ARG``.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from release import REPOSITORY, TINY


@dataclass
class Image:
    """What the steps have made so far.

    Args:
        root: the folder that stands for ``/``.
        environment: variables of ``RUN`` and of the container.
    """

    root: Path
    environment: dict[str, str]
    workdir: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Where a path of the image lies here; relative ones are below ``WORKDIR``."""
        return self.root / os.path.normpath(os.path.join(self.workdir, name)).lstrip("/")


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """(``"RUN"``, its words) for each instruction, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, words = line.strip().partition(" ")
            yield name.upper(), " ".join(words.split())


def copy(image: Image, words: str) -> None:
    """``COPY``: from the repository, without what Python leaves behind."""
    *sources, target = shlex.split(words)
    for source in sources:
        origin, place = REPOSITORY / source, image.path(target)
        if origin.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(origin, place, ignore=ignore, dirs_exist_ok=True)
        else:
            into = place / origin.name if target.endswith(("/", ".")) else place
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, into)


def shell(image: Image, command: str) -> None:
    """``RUN``: in the working folder; apt only in thought."""
    if "apt-get" in command:
        packages = re.search(r"apt-get install (.+?)(?:&&|$)", command)
        assert packages, command
        words = [word for word in packages[1].split() if word != "-y"]
        if shutil.which("apt-get") is None:
            print("  (no apt here: not tried)")
            return
        command = shlex.join(["apt-get", "install", "--simulate", "-qq", *words])
    print("$", command, flush=True)
    result = subprocess.run(
        ["sh", "-ec", command],
        cwd=image.path("."),
        env=image.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"failed with {result.returncode}:\n{result.stdout}\n{result.stderr}")


def step(image: Image, name: str, words: str) -> None:
    """One instruction.

    Raises: ValueError: it is none that is known here.
    """
    if name == "WORKDIR":
        image.workdir = words
        image.path(".").mkdir(parents=True, exist_ok=True)
    elif name == "COPY":
        copy(image, words)
    elif name == "RUN":
        shell(image, words)
    elif name == "ARG":
        variable, _, default = words.partition("=")
        image.environment.setdefault(variable, default)
    elif name in ("ENTRYPOINT", "CMD"):
        setattr(image, "command" if name == "CMD" else "entrypoint", json.loads(words))
    elif name != "FROM":
        raise ValueError(f"{name} is no instruction that is known here")


def container(image: Image, *words: str) -> str:
    """Runs the entrypoint with other words than ``CMD``; what it printed."""
    result = subprocess.run(
        [*image.entrypoint, *(words or image.command)],
        cwd=image.path("."),
        env={**image.environment, "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def main() -> None:
    """All steps, then the container's help and a tiny run."""
    given = dict(word.partition("=")[::2] for word in sys.argv[1:])
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        venv.create(root / "venv", with_pip=True)
        own = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "WANDB"))}
        path = f"{root / 'venv' / 'bin'}{os.pathsep}{own.get('PATH', '')}"
        image = Image(root, {**own, **given, "PATH": path})
        text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
        for instruction, words in instructions(text):
            step(image, instruction, words)
        assert "usage: python -m adabc_lightning" in container(image)
        assert "score: pretrained" in container(image, *TINY)
    print("the Dockerfile's steps work, and so does what they make")


if __name__ == "__main__":
    main()
