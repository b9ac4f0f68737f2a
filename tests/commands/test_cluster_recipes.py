"""What is shipped for SLURM and for Weights & Biases' sweeps, by dry runs and without either."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from paths import REPOSITORY
from test_experiment import dry_run, toy_experiment

from adabc_lightning.__main__ import main
from adabc_lightning.callbacks.metrics import COLUMNS
from adabc_lightning.run.nested import dotted

RECIPES = REPOSITORY / "examples" / "cluster"
ARRAY = RECIPES / "slurm_array.sh"
# What SLURM would start or note; a step that the time limit ends has status 143.
SLURM = {
    "srun": '#!/bin/sh\n"$@"\nstatus=$?\nexit ${STATUS:-$status}\n',
    "scontrol": '#!/bin/sh\necho "$@" > requeued\n',
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a toy experiment, and stand-ins for SLURM's commands."""
    monkeypatch.chdir(tmp_path)
    toy_experiment(tmp_path)
    Path("bin").mkdir()
    for name, script in SLURM.items():
        Path("bin", name).write_text(script)
        Path("bin", name).chmod(0o755)
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(RECIPES.parent.parent))


def task(index: int, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A task of an array."""
    slurm = {name: "0" for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")}
    slurm |= {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "adabc", "SLURM_NODELIST": "node1"}
    slurm |= {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_JOB_ID": "7", "SLURM_JOB_ID": "8"}
    path = f"{Path.cwd()}/bin:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **slurm, **environment}
    command = ["bash", str(ARRAY), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_tasks_of_an_array_are_the_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["bash", "-n", ARRAY], check=True)
    tasks = []
    for stage, count in (("pretrainings", 2), ("runs", 4)):
        for index in range(count):
            done = task(index, "pair", stage, "--out", "o", "--dry-run")
            assert done.returncode == 0, done.stderr
            command, summary = done.stdout.splitlines()
            assert summary.startswith("# 2 pre-trainings, 4 runs; ")
            tasks.append(shlex.split(command.removeprefix("python -m adabc_lightning fit ")))
    assert sorted(tasks) == sorted(dry_run(capsys, "pair --out o"))
    beyond = task(4, "pair", "runs", "--dry-run")
    assert beyond.returncode == 2
    assert beyond.stderr == "error: --index is 4, but there are 4 runs, 0 the first\n"
    assert task(0).returncode == 2
    assert main(["experiment", "pair", "--index", "1"]) == 2
    assert "--index needs --only pretrainings or --only runs" in capsys.readouterr().err


def test_an_array(capsys: pytest.CaptureFixture[str]) -> None:
    """Both runs of a seed at once, after their pre-training; what runs out of time is queued."""
    early = task(0, "pair", "runs", "--out", "o")
    assert early.returncode == 1
    assert "not run: its pre-training is not finished (--only pretrainings)" in early.stderr
    assert task(0, "pair", "pretrainings", "--out", "o").returncode == 0
    assert main(["experiment", "pair", "--out", "o", "--only", "pretrainings", "--seeds", "1"]) == 0
    words = [sys.executable, "-m", "adabc_lightning", "experiment", "pair", "--out", "o"]
    both = [
        subprocess.Popen([*words, "--only", "runs", "--index", index], stderr=subprocess.PIPE)
        for index in "01"
    ]
    for process in both:
        assert process.wait(120) == 0, process.communicate()
        process.communicate()
    assert len(Path("o/results.csv").read_text().splitlines()) == 3
    assert not Path("requeued").exists()
    again = task(0, "pair", "runs", "--out", "o", STATUS="143")
    assert (again.returncode, again.stderr) == (143, "nothing is left to run\n")
    assert Path("requeued").read_text() == "requeue 7_0\n"


def test_the_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    """Every value, as an agent writes it, is one that `fit` takes."""
    sweep = yaml.safe_load((RECIPES / "sweep.yaml").read_text())
    assert sweep["method"] == "grid"
    assert sweep["metric"]["name"] in COLUMNS
    assert sweep["command"][:5] == ["${env}", "${interpreter}", "-m", "adabc_lightning", "fit"]
    assert sweep["command"][-1] == "${args}"
    command = sweep["command"][4:-1]
    values = {name: parameter["values"] for name, parameter in sweep["parameters"].items()}
    for index in range(max(map(len, values.values()))):
        chosen = {name: some[index % len(some)] for name, some in values.items()}
        words = [f"--{name}={value}" for name, value in chosen.items()]
        assert main([*command, *words, "--dry-run"]) == 0
        capsys.readouterr()
        with pytest.raises(SystemExit, match=r"^0$"):
            main([*command, *words, "--print_config"])
        config = dict(dotted(yaml.safe_load(capsys.readouterr().out)))
        assert {name: float(config[name]) for name in chosen} == chosen
    assert main([*command, "--alpha.kq=1", "--dry-run"]) == 2
