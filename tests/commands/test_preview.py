"""``fit --dry-run``: the plan is what then happens, and nothing is left behind."""

import csv
import re
import shlex
from pathlib import Path

import pytest
import torch

from adabc_lightning.__main__ import main
from adabc_lightning.commands.preview import to_fetch

RUN = shlex.split(
    "fit --config hopper --schedule.offline_updates 25 --schedule.online_env_steps 12"
    " --schedule.updates_per_env_step 2 --schedule.evaluation_every 10 --evaluation.episodes 2"
    " --model.hidden_sizes [128,128] --model.num_critics 4 --data.batch_size 16 --metrics.every 5"
    " --downsampling.minimum 300 --downsampling.keep 0 --data.replay_capacity 400"
    " --checkpoints.keep_policies true --trainer.enable_progress_bar false"
    " --trainer.default_root_dir run"
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, and no datasets of D4RL or Minari."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The plan of a command."""
    capsys.readouterr()
    assert main([*RUN, *words, "--dry-run"]) == 0
    return capsys.readouterr().out


def size(plan: str, name: str) -> float:
    """Bytes that the plan gives to a file or to a kind of memory."""
    number, unit = re.search(rf"^ +{re.escape(name)} +([\d.]+) (\w+)$", plan, re.M).groups()
    return float(number) * {"bytes": 1, "kB": 1e3, "MB": 1e6}[unit]


def test_the_plan_is_what_then_happens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = said(capsys)
    assert list(tmp_path.iterdir()) == []
    assert "hopper-medium-replay (99,970 transitions)" in plan
    assert "TD3BC, 4 critics of which 2 make a target" in plan
    assert "pre-training  25 updates of 16 transitions; 3 evaluations of 2 episodes" in plan
    assert "hand-over     keeps 300 of 99,970 transitions" in plan
    assert "fine-tuning   12 environment steps × 2 updates = 24; 2 evaluations of 2" in plan

    assert main(RUN) == 0
    with open("run/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    evaluated = [row["phase"] for row in rows if row["eval/return"]]
    assert evaluated == ["offline"] * 3 + ["online"] * 2
    checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert len(checkpoint["ReplayDataModule"]["replay"]["rows"]) == 300 + 12
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt", "pretrained.ckpt"):
        real = (tmp_path / "run" / "checkpoints" / name).stat().st_size
        assert size(plan, f"checkpoints/{name}") == pytest.approx(real, rel=0.05)
    policies = list(Path("run/checkpoints/policies").iterdir())
    assert len(policies) == 3  # the plan has the three that stay
    assert size(plan, "checkpoints/policies/") == pytest.approx(3 * 4 * 18_435, rel=0.01)


def test_a_plan_that_goes_on_says_from_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(RUN) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    more = ("--ckpt_path", "last", "--schedule.online_env_steps", "30")
    plan = said(capsys, *more)
    assert "goes on from  49 updates, 12 environment steps" in plan
    assert "pre-training" not in plan
    assert "fine-tuning   18 environment steps × 2 updates = 36; 2 evaluations" in plan
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_steadys_plan_has_its_trials_and_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    plan = said(capsys, "--config", "method/steady", "--data.max_episode_steps", "100")
    assert "agent         TD3BC (method/steady), 4 critics" in plan
    # 5 episodes of 100 steps, four times, make 2,000: by each of two policies before evaluations
    # after 10 and 12 steps, and by one at the hand-over. 400 times where each lasts a step.
    assert "trials        2 of two policies, and one at the hand-over: 100 to 10,000 ep" in plan
    assert "episodes, 2,080 to 12,495 environment steps\n" in plan


def test_frozen_steps_make_no_update_and_a_run_of_nothing_else_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = said(capsys, "--schedule.frozen_env_steps", "5")
    assert "fine-tuning   (12 − 5 frozen) environment steps × 2 updates = 14; 2 eval" in plan
    capsys.readouterr()
    frozen = ("--schedule.frozen_env_steps", "5000", "--model.replicas", "2")
    assert main([*RUN, *frozen, "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "fine-tuning   (12 − 12 frozen) environment steps × 2 updates = 0;" in printed.out
    said_once = "frozen_env_steps is 5,000 and schedule.online_env_steps 12: fine-tuning makes no"
    assert printed.err.count(said_once) == 1


def test_a_dataset_to_be_fetched_is_named_and_not_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = said(capsys, "--data.dataset", "hopper-medium-v0", "--data.download", "true")
    assert "to be fetched: http://rail.eecs.berkeley.edu/" in plan
    assert "hopper_medium.hdf5 (54.3 MB)" in plan
    assert "hand-over" not in plan  # the number of transitions is not known yet
    assert list(tmp_path.iterdir()) == []


def test_what_is_here_need_not_be_fetched(tmp_path: Path) -> None:
    assert to_fetch(None) is None
    assert to_fetch("hopper-medium-replay") is None
    assert to_fetch("mujoco/hopper/medium-v0") == "mujoco/hopper/medium-v0 from Minari's server"
    (tmp_path / "minari/mujoco/hopper/medium-v0/data").mkdir(parents=True)
    assert to_fetch("mujoco/hopper/medium-v0") is None
    (tmp_path / "d4rl").mkdir()
    (tmp_path / "d4rl" / "hopper_medium.hdf5").touch()
    assert to_fetch("hopper-medium-v0") is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--data.replay_capacity 200", "downsampling keeps 300 transitions, data.replay_capacity"),
        ("--data.dataset none.hdf5", "is no file"),
        ("--model.gama 0.9", "did you mean 'model.gamma'?"),
        ("--ckpt_path nowhere.ckpt", "there is no checkpoint nowhere.ckpt"),
    ],
)
def test_what_fit_refuses_its_plan_refuses(
    words: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, *words.split(), "--dry-run"]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--trainer.devices 0", "not a valid input using cpu accelerator"),
        ("--trainer.devices [0,1]", "should be an int > 0"),
        ("--trainer.devices 2 --model.engine compiled", "compiled, which runs on one device; on 2"),
        ("--trainer.devices 2 --trainer.strategy ddp_spawn", "on 2 devices set it to ddp"),
        ("--trainer.devices 2 --trainer.strategy fsdp", "requires a GPU accelerator"),
        ("--trainer.devices 3", "on 3 devices it must be a multiple of 3"),
    ],
)
def test_devices_that_a_run_would_refuse_are_refused(
    words: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    even = "--schedule.evaluation_every 4 --trainer.accelerator cpu --dry-run"
    assert main([*RUN, *words.split(), *even.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_a_plan_of_several_devices(capsys: pytest.CaptureFixture[str]) -> None:
    two = ("--trainer.devices", "2", "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp")
    assert "fine-tuning   12 environment" in said(capsys, *two, "--schedule.evaluation_every", "4")
