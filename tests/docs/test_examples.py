"""The guide and the examples, as they stand, at a size of seconds."""

import csv
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import REPOSITORY

from adabc_lightning import load_policy
from adabc_lightning.__main__ import main
from adabc_lightning.data.datasets import load_dataset

GUIDE = (REPOSITORY / "docs" / "your_own.md").read_text(encoding="utf-8")
SMALL = (
    "--schedule.offline_updates 10 --schedule.online_env_steps 220 --model.num_critics 2"
    " --schedule.evaluation_every 110 --model.hidden_sizes [8] --data.batch_size 8"
    " --evaluation.episodes 1 --trainer.enable_progress_bar false"
)


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_a_user: Path) -> Path:
    """A copy of the folder, the working one, with a log of twelve episodes."""
    folder = tmp_path / "examples"
    shutil.copytree(
        REPOSITORY / "examples",
        folder,
        ignore=shutil.ignore_patterns("runs", "*.csv", "*.hdf5", "*.svg", "__pycache__"),
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WANDB_MODE", "disabled")  # it is the guide's commands that show it
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.delenv("ADABC_ALLOW", raising=False)
    return folder


def command(line: str) -> list[str]:
    """A line of the guide, with what makes it small."""
    program, *words = shlex.split(line)
    assert program == "python"
    if words[0] == "point_mass_log.py":
        words.append("12")
    if words[:3] == ["-m", "adabc_lightning", "fit"]:
        words += shlex.split(SMALL)
    return [sys.executable, *words]


def run(line: str) -> str:
    done = subprocess.run(command(line), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == kind]


def test_the_guide(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.delenv("WANDB_MODE")
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert [shlex.split(line)[1:4][-1] for line in lines] == [
        *("point_mass_log.py", "inspect", "fit", "validate"),
    ]
    said = [run(line) for line in lines]
    card = said[1]
    for words in ("1,200 transitions, 12 episodes", "time limit 100; random actions return 3.26"):
        assert words in card
    assert Path("card.svg").exists()
    assert len(load_dataset("point_mass.hdf5").rows) == 1200
    assert said[2].startswith("score: pretrained ")
    assert "score " in said[3]
    # the card in the guide has the lines of this one
    (shown,) = (block for block in blocks("") if block.startswith("point_mass.csv"))
    for line in shown.splitlines()[1:10]:
        label = line[:14]
        assert any(other.startswith(label) for other in card.splitlines()), label


def test_a_method_of_one_s_own(examples: Path) -> None:
    """As docs/methods.md has it, and twice in one process: its equations stack."""
    text = (REPOSITORY / "docs" / "methods.md").read_text(encoding="utf-8")
    line = re.search(r"^python .*own_method$", text, re.MULTILINE)
    assert line is not None
    run(f"{line[0]} --trainer.default_root_dir runs/one")
    run(f"{line[0]} --trainer.default_root_dir runs/two --model.replicas 2")
    rows = []
    for folder in ("one", "two/replica_0"):
        with open(f"runs/{folder}/metrics.csv", encoding="utf-8") as file:
            rows.append([row for row in csv.DictReader(file) if row["q/caution"]])
    assert rows[0]
    for alone, beside in zip(*rows, strict=True):
        for name, number in alone.items():
            if name != "phase" and number:
                assert float(beside[name]) == pytest.approx(float(number), rel=1e-3, abs=1e-4)


def test_a_controller_of_one_s_own(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/methods.md has it, and where the run goes on."""
    monkeypatch.syspath_prepend(examples)
    text = (REPOSITORY / "docs" / "methods.md").read_text(encoding="utf-8")
    line = re.search(r"^python .*own_controller$", text, re.MULTILINE)
    assert line is not None
    words = command(f"{line[0]} --trainer.default_root_dir runs/own")[3:]
    assert main(words) == 0
    more = "--ckpt_path last --schedule.online_env_steps 440 --allow own_controller"
    assert main(["fit", "--trainer.default_root_dir", "runs/own", *more.split()]) == 0
    with open("runs/own/metrics.csv", encoding="utf-8") as file:
        cells = {row["control/target"] for row in csv.DictReader(file)} - {""}
    returns = load_dataset("hopper-medium-replay").episode_return_E.numpy()
    low, high = -20.272305, 3234.3  # D4RL's
    (target,) = map(float, cells)
    assert target == pytest.approx((np.quantile(returns, 0.9) - low) / (high - low), rel=1e-5)


def test_two_processes(examples: Path) -> None:
    run("python point_mass_log.py")
    run("python -m adabc_lightning inspect point_mass.csv --convert point_mass.hdf5")
    acting, learning = (
        line for block in blocks("") for line in block.splitlines() if line.startswith("python ")
    )
    robot = subprocess.Popen(command(acting), stdout=subprocess.PIPE, text=True)
    while not Path("exchange/space.json").exists():
        assert robot.poll() is None
    try:
        said = run(learning)
        acted, _ = robot.communicate(timeout=60)
    finally:
        robot.kill()
    assert robot.returncode == 0
    assert said.startswith("score: ")
    told = [float(line.rpartition(" ")[2]) for line in acted.splitlines()]
    assert len(told) == len(list(Path("exchange/episodes").glob("*.npz"))) > 2
    with open("runs/robot/metrics.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["online/episode_return"]]
    last = float(rows[-1]["online/episode_return"])
    assert any(last == pytest.approx(value, abs=0.051) for value in told)


def smaller(code: str) -> str:
    """The point mass's scripts in seconds."""
    for large, small in {
        "2_000": "20",
        "3_000": "30",
        "every=500": "every=10",
        "(64, 64)": "(8, 8)",
    }.items():
        assert large in code
        code = code.replace(large, small)
    return code


def test_the_python_api(examples: Path) -> None:
    """The same as in docs/python_api.md."""
    run("python point_mass_log.py")
    script = Path("python_api.py")
    code = script.read_text(encoding="utf-8")
    text = (REPOSITORY / "docs" / "python_api.md").read_text(encoding="utf-8")
    configured, shown, several = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert shown in code
    tiny = {"schedule.offline_updates": 20, "schedule.online_env_steps": 10, "data.batch_size": 8}
    more = {**tiny, "model.hidden_sizes": [8], "evaluation.episodes": 1, "downsampling.minimum": 50}
    configured = configured.replace("run = ", f"keys |= {more}\nrun = ")
    Path("configured.py").write_text(configured + "print(len(history))\n", encoding="utf-8")
    said = run("python configured.py").splitlines()
    assert said[0].startswith("Schedule(offline_updates=20, ")
    assert said[0].endswith(") 10")
    assert said[-1] == "2"
    assert Path("runs/configured/report.html").exists()
    several = several.replace("range(5)", "range(2)")
    Path("several.py").write_text(smaller(several) + "print(len(policies))\n", encoding="utf-8")
    assert run("python several.py").splitlines()[-1] == "2"
    assert Path("runs/five_in_python/replica_1/metrics.csv").exists()
    assert load_policy("runs/five_in_python/replica_1").card["reference"]["maximum"] == 100.0
    script.write_text(smaller(code), encoding="utf-8")
    said = run("python python_api.py")
    steps = [line.split()[:2] for line in said.splitlines() if re.match(r"\d", line)]
    assert steps == [["10", "0"], ["20", "0"], ["40", "10"], ["60", "20"], ["80", "30"]]
    assert "first action: [" in said
    assert Path("runs/python_api/metrics.csv").exists()
