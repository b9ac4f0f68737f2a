"""What is handed out: the archives' contents, and the Dockerfile's cheap steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dockerfile import REPOSITORY, Image, container, instructions, step
from release import check_contents, tracked, wheel_should_have


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and sdist of the repository as it stands."""
    folder = tmp_path_factory.mktemp("dist")
    words = ["-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", str(folder)]
    subprocess.run([sys.executable, *words], cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="no clone")
def test_wheel_and_sdist_hold_the_repository_s_files_and_no_others(
    archives: tuple[Path, Path],
) -> None:
    check_contents(*archives)


def test_what_a_wheel_should_have() -> None:
    files = ["adabc_lightning/cli.py", "configs/method/awac.yaml", "docs/faq.md", "README.md"]
    assert wheel_should_have(files) == {
        "adabc_lightning/cli.py",
        "adabc_lightning/configs/method/awac.yaml",
    }


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="no clone")
def test_the_repository_holds_nothing_that_is_made() -> None:
    made = (".whl", ".ckpt", ".pyc", "MUJOCO_LOG.TXT")
    assert [name for name in tracked() if name.endswith(made) and "/v010/" not in name] == []


def test_instructions_are_read_as_docker_does() -> None:
    text = 'FROM a\n# no\nRUN one \\\n    && two\n\nCOPY x  y\nCMD ["--help"]\n'
    assert list(instructions(text)) == [
        ("FROM", "a"),
        ("RUN", "one && two"),
        ("COPY", "x y"),
        ("CMD", '["--help"]'),
    ]


def test_the_dockerfile_s_steps(tmp_path: Path) -> None:
    """All but what needs a package index: the dependencies are this environment's."""
    bin_folder = str(Path(sys.executable).parent)
    site = tmp_path / "site"
    image = Image(
        tmp_path / "root",
        {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
    )
    image.root.mkdir()
    installed = []
    for name, words in instructions((REPOSITORY / "Dockerfile").read_text(encoding="utf-8")):
        if name == "RUN" and "apt-get" in words:
            continue
        if name == "RUN":
            installed.append(words.split()[-1])
            if words.endswith("torch"):
                continue
            assert image.path("constraints.txt").is_file()
            words = f"python -m pip install -q --no-deps --no-build-isolation --target {site} ."
        step(image, name, words)
    assert installed == ["torch", "'.[tensorboard,adroit,report,export,tables]'"]
    assert image.workdir == "/work"
    image.environment["PYTHONPATH"] = str(site)
    assert "usage: python -m adabc_lightning" in container(image)
    assert "method/awac.yaml" in container(image, "configs")


def test_an_unknown_instruction_is_no_step(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="HEALTHCHECK"):
        step(Image(tmp_path, {}), "HEALTHCHECK", "NONE")
