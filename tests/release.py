"""``make release-check``: wheel and sdist built, checked, installed in a clean place, and run.

    python tests/release.py [--keep FOLDER]

It needs a package index (``TORCH_INDEX`` names one more, for PyTorch) and some minutes;
``test_release.py`` does what needs neither.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = shlex.split(
    "fit --config hopper --config quick --schedule.offline_updates 6 --schedule.online_env_steps 4"
    " --schedule.updates_per_env_step 1 --schedule.evaluation_every 3 --model.hidden_sizes [8]"
    " --evaluation.episodes 1 --trainer.default_root_dir run"
)


def tracked() -> list[str]:
    """Files that belong to the repository, by their paths in it."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    return [name for name in listed.stdout.splitlines() if (REPOSITORY / name).exists()]


def wheel_should_have(files: list[str]) -> set[str]:
    """The package, with configs and experiments inside it."""
    inside = {name for name in files if name.startswith("adabc_lightning/")}
    moved = {
        f"adabc_lightning/{name}" for name in files if name.startswith(("configs/", "experiments/"))
    }
    return inside | moved


def wheel_has(wheel: Path) -> set[str]:
    """Its files without its metadata."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def sdist_has(sdist: Path) -> set[str]:
    """Its files, below its one folder, without the metadata."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return names - {"PKG-INFO"}


def check_contents(wheel: Path, sdist: Path) -> None:
    """Raises: AssertionError: a file is missing or one too many."""
    files = tracked()
    for archive, has, should in (
        (wheel, wheel_has(wheel), wheel_should_have(files)),
        (sdist, sdist_has(sdist), set(files)),
    ):
        missing, more = sorted(should - has), sorted(has - should)
        assert not missing, f"{archive.name} lacks {missing[:10]}"
        assert not more, f"{archive.name} has {more[:10]}, which the repository has not"


def run(*words: str | Path, cwd: Path) -> str:
    """A command that must succeed, shown; what it printed."""
    print("$", shlex.join(map(str, words)), flush=True)
    own = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "PYTHON"))}
    result = subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env={**own, "WANDB_MODE": "disabled"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"failed with {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return result.stdout


def use(python: Path, elsewhere: Path) -> None:
    """What somebody does first with an installed package."""
    elsewhere.mkdir()
    command = (python, "-m", "adabc_lightning")
    print(run(*command, "--version", cwd=elsewhere).strip())
    assert "hopper.yaml" in run(*command, "configs", cwd=elsewhere)
    run(*command, "doctor", "--seconds", "1", cwd=elsewhere)
    assert "score: pretrained" in run(*command, *TINY, cwd=elsewhere)
    where = run(python, "-c", "import adabc_lightning as a; print(a.__file__)", cwd=elsewhere)
    assert not where.startswith(str(REPOSITORY)), where


def main() -> None:
    """Builds, checks, installs, runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path, help="where the two archives go (default: nowhere)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dist = (options.keep or folder / "dist").resolve()
        run(sys.executable, "-m", "build", "--outdir", dist, cwd=REPOSITORY)
        (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
        check_contents(wheel, sdist)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        index = os.environ.get("TORCH_INDEX")
        more = ["--extra-index-url", index] if index else []
        pip = (python, "-m", "pip", "install", "-q", "-c", REPOSITORY / "constraints.txt", *more)
        run(*pip, wheel, cwd=folder)
        use(python, folder / "of-the-wheel")
        run(*pip, "--force-reinstall", "--no-deps", sdist, cwd=folder)
        use(python, folder / "of-the-sdist")
        run(python, "-m", "pip", "check", cwd=folder)
    print("wheel and sdist hold what they should, install and run")


if __name__ == "__main__":
    main()
