"""Whole processes: killed and resumed, asked to stop, on a terminal, from a built wheel."""

import csv
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from paths import REPOSITORY

SMALL = shlex.split(
    "fit --config hopper.yaml --schedule.offline_updates 60 --schedule.updates_per_env_step 2"
    " --schedule.evaluation_every 30 --schedule.offline_chunk 10 --data.batch_size 16"
    " --model.hidden_sizes [16] --model.num_critics 3 --evaluation.episodes 1 --metrics.every 20"
)


def environment(**extra: str) -> dict[str, str]:
    """Without W&B, one thread."""
    return {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", **extra}


def command(folder: Path, steps: int, *more: str) -> list[str]:
    """The small run in a folder."""
    words = [*SMALL, "--schedule.online_env_steps", str(steps)]
    words += ["--trainer.default_root_dir", str(folder), *more]
    return [sys.executable, "-m", "adabc_lightning", *words]


def start(folder: Path, steps: int) -> subprocess.Popen:
    """A running process that has made its first environment steps."""
    process = subprocess.Popen(command(folder, steps), env=environment(), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        metrics = folder / "metrics.csv"
        if metrics.exists() and "\nonline" in metrics.read_text():
            return process
        time.sleep(0.01)
    raise AssertionError(f"no first step: {process.communicate()[1]!r}")


def finish(folder: Path, steps: int) -> dict:
    """Goes on to the end; the final checkpoint."""
    arguments = command(folder, steps, "--ckpt_path", "last")
    subprocess.run(arguments, env=environment(), check=True, capture_output=True)
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("uncut") / "run"
    return folder, finish(folder, 150)  # "last" on a fresh folder starts from the beginning


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed_equals_uncut(
    uncut: tuple[Path, dict], number: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = start(folder, 150)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1].decode()
    if number == signal.SIGKILL:
        assert process.returncode == -9
    else:
        assert process.returncode == 128 + number, said
        assert f"stopped by {number.name}, saved; go on with" in said
        assert "Traceback" not in said
    resumed, (uncut_folder, expected) = finish(folder, 150), uncut
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], tensor), name
    rows = "ReplayDataModule"
    assert torch.equal(resumed[rows]["replay"]["rows"], expected[rows]["replay"]["rows"])
    assert (folder / "metrics.csv").read_text() == (uncut_folder / "metrics.csv").read_text()


def test_validate_repeats_the_last_evaluation_of_the_run(uncut: tuple[Path, dict]) -> None:
    folder, _ = uncut
    words = ["validate", "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")]
    arguments = [sys.executable, "-m", "adabc_lightning", *words]
    result = subprocess.run(
        arguments, env=environment(), check=True, capture_output=True, text=True
    )
    with open(folder / "metrics.csv", newline="") as file:
        recorded = [row["eval/return"] for row in csv.DictReader(file) if row["eval/return"]][-1]
    assert f"return {float(recorded):.2f} ± " in result.stdout


def test_on_a_terminal_there_is_a_bar_for_each_phase(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "cols", "120", "rows", "40"], stdin=theirs, check=True)
    process = subprocess.Popen(
        command(tmp_path / "run", 40), env=environment(), stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    text = shown.decode()
    assert process.wait() == 0, text
    offline = re.findall(r"offline: +(\d+)%.*?updates/s.*?score (\S+), α 0\.400", text)
    online = re.findall(r"online: +(\d+)%.*?env steps/s.*?score (\S+), α 0\.\d+", text)
    assert offline[-1][0] == online[-1][0] == "100"
    assert float(online[-1][1])
    assert "score: pretrained" in text


def test_the_built_wheel_runs_in_any_folder(tmp_path: Path) -> None:
    words = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([sys.executable, *words, str(REPOSITORY)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(installed)
    elsewhere.mkdir()
    result = subprocess.run(
        command(tmp_path / "run", 3),
        env=environment(PYTHONPATH=str(installed)),
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    where = "import adabc_lightning; print(adabc_lightning.__file__)"
    used = subprocess.run(
        [sys.executable, "-c", where],
        env=environment(PYTHONPATH=str(installed)),
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=True,
    )
    assert used.stdout.startswith(str(installed))  # the wheel's, not the clone's
